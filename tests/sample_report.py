"""A report of a made-up finished run: enough of everything that a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from hardware.formats.registry import find_format
from hardware.latency import Latency
from nas.delivery.results import Front, ValidatedModel, Versus
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Evaluation
from nas.reporting.facts import Report
from nas.search.effects import effects_of_genes
from nas.search.predictor_report import report_predictors
from nas.search.problem import History
from nas.search.surrogate import Surrogate
from tests.sample_problems import block_problem, measure


@cache
def sample_report(title: str = "sample", seed: int = 0, metric: str = "accuracy") -> Report:
    """Twenty evaluations of three blocks, two models of them and the references."""
    objectives = (metric, "latency_ms", "size_bytes")
    problem = block_problem(3, objectives)
    space, rng = problem.space, np.random.default_rng(seed)
    genomes = np.unique(space.sample(30, rng), axis=0)[:20]
    history = History.empty(problem).append(genomes, measure(problem, genomes))
    largest = Candidate.from_genome(space, space.largest())
    references = [largest.with_precision(find_format(name)) for name in ("fp32", "int8")]
    found = [Candidate.from_genome(space, genome) for genome in genomes]
    evaluations = [
        _evaluation(c, dict(zip(objectives, row.tolist(), strict=True)), number)
        for number, (c, row) in enumerate(zip(found, history.values, strict=True))
    ]
    evaluations = [e for e in evaluations if e.candidate not in references]
    metrics = [
        dict(zip(objectives, row.tolist(), strict=True))
        for row in measure(problem, np.array([c.genome(space) for c in references]))
    ]
    models = [_model(e.candidate.key, e.candidate, e.metrics) for e in evaluations[:2]]
    models += [
        replace(_model(name, c, row), role="reference")
        for name, c, row in zip(("fp32", "int8"), references, metrics, strict=True)
    ]
    surrogate = Surrogate.fit(problem, history, 0)
    return Report(
        title=title,
        front=Front(
            tuple(models), models[0].name, len(evaluations), {"target": {"threads": 1}}, metric
        ),
        evaluations=evaluations,
        predictors=report_predictors(surrogate, history),
        finished=True,
        objectives=problem.objectives,
        space=space,
        effects=effects_of_genes(surrogate, genomes),
        profiles={
            model.name: {
                **{
                    layer: {
                        "format": entry.name,
                        "weight_bytes": 100.0,
                        "milliseconds": 0.1,
                        "macs": 7.0,
                    }
                    for layer, entry in model.candidate.policy.items()
                },
                "": {"format": "", "weight_bytes": 10.0, "milliseconds": 0.05, "macs": 2.0},
            }
            for model in models
        },
        cards={model.name: f"# {model.name}\n```python\nprint(1)\n```\n" for model in models},
    )


def _evaluation(candidate: Candidate, metrics: dict[str, float], number: int) -> Evaluation:
    latency = Latency(metrics["latency_ms"], 0.1, 0.2, 10)
    details = Details(latency, "all layers", duration_s=6.0)
    return Evaluation(candidate, metrics, details, finished_s=1e9 + 10.0 * number)


def _model(name: str, candidate: Candidate, metrics: Mapping[str, float]) -> ValidatedModel:
    latency, versus = metrics["latency_ms"], Versus(-0.01, 1.5, 1.4, 1.6, 2.0)
    return ValidatedModel(
        name=name,
        role="front",
        candidate=candidate,
        validation_score=next(iter(metrics.values())),
        test_score=0.9,
        latency_ms=(latency, latency * 0.9, latency * 1.1),
        size_bytes=int(metrics["size_bytes"]),
        coverage="all layers",
        versus={"fp32": versus, "int8": versus},
    )
