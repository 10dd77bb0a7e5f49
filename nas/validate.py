"""The final front: chosen, exported, scored on the test split, measured together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardware.attribution import FallbackError
from hardware.latency import Latency, Seconds, calm, ratio, run_times
from hardware.session import Arrays, open_session
from hardware.target import Target
from hardware.verify import PolicyError
from nas.config import Experiment
from nas.evaluate import split_accuracy
from nas.export import Exporter, ExportError
from nas.front import spread
from nas.front_file import Front, ValidatedModel, Versus
from nas.latency_queue import LatencyQueue
from nas.ledger import Evaluation
from nas.model_card import model_card
from nas.objectives import Constraint, FloatArray, to_costs
from nas.polish import Polish
from nas.progress import Reporter
from nas.references import low_reference, measured_references
from nas.run_folder import read_json, remove_others, write_atomically

VALIDATION_REPEATS = 90
REFUSED = (ExportError, FallbackError, PolicyError)
"""What keeps one model from being exported, and the others not."""


@dataclass(frozen=True)
class Pick:
    """A candidate to ship, and the name of its folder."""

    name: str
    evaluation: Evaluation


def pick_models(evaluations: Sequence[Evaluation], experiment: Experiment) -> list[Pick]:
    """References first, then the front candidates to ship, fastest first.

    At most `export.models` that keep the constraints, spread over the front; the fastest within
    the accepted accuracy drop is always among them. Raises ValueError before the references are
    measured.
    """
    references = measured_references(evaluations)
    settings, bar = experiment.export, _accuracy_bar(references, experiment)
    kept = _within_constraints(searched(evaluations), experiment, references)
    picked = [kept[i] for i in spread(costs_of(kept, experiment), settings.models)] if kept else []
    good = [e for e in kept if e.metrics["accuracy"] >= bar]
    fastest = min(good, key=lambda e: e.metrics["latency_ms"], default=None)
    if fastest is not None and fastest not in picked:
        picked[settings.models - 1 :] = [fastest]
    picked.sort(key=lambda e: e.metrics["latency_ms"])
    return [
        *(Pick(name, evaluation) for name, evaluation in references.items()),
        *(Pick(evaluation.candidate.key, evaluation) for evaluation in picked),
    ]


def recommend(models: Sequence[ValidatedModel], accuracy_drop: float) -> str:
    """Name of the fastest model whose validation accuracy the accepted drop allows."""
    names = [model.name for model in models if model.role == "reference"]
    low = next(model for model in models if model.name == low_reference(names))
    good = [m for m in models if m.validation_accuracy >= low.validation_accuracy - accuracy_drop]
    return min(good, key=lambda model: model.latency_ms[0]).name


def _accuracy_bar(references: Mapping[str, Evaluation], experiment: Experiment) -> float:
    low = references[low_reference(references)]
    return low.metrics["accuracy"] - experiment.export.accuracy_drop


def _within_constraints(
    evaluations: Sequence[Evaluation],
    experiment: Experiment,
    references: Mapping[str, Evaluation],
) -> list[Evaluation]:
    constraints = resolved_constraints(experiment, references)
    return [
        e
        for e in evaluations
        if not any(c.violation(np.array(e.metrics[c.metric])) > 0 for c in constraints)
    ]


def resolved_constraints(
    experiment: Experiment, references: Mapping[str, Evaluation]
) -> list[Constraint]:
    """The experiment's constraints, what refers to a reference replaced by what that measured."""
    metrics = {name: reference.metrics for name, reference in references.items()}
    return [c.resolve(metrics) for c in experiment.parsed_constraints()]


def searched(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that a search asked for and that did not fail."""
    return [e for e in evaluations if e.role == "search" and e.failure is None]


def costs_of(evaluations: Sequence[Evaluation], experiment: Experiment) -> FloatArray:
    """What was measured of the experiment's objectives, as costs `(n, n_objectives)`."""
    objectives = experiment.parsed_objectives()
    rows = [[e.metrics[objective.name] for objective in objectives] for e in evaluations]
    return to_costs(np.array(rows), objectives)


def provisional_front(evaluations: Sequence[Evaluation], experiment: Experiment) -> Front:
    """The best so far by what the search has measured; nothing is exported, no test score."""
    picks = pick_models(evaluations, experiment)
    references = [pick for pick in picks if pick.evaluation.role == "reference"]
    models = [
        replace(_unscored(pick), versus={r.name: _by_search(pick, r) for r in references})
        for pick in picks
    ]
    return Front(
        models=tuple(models),
        recommended=recommend(models, experiment.export.accuracy_drop),
        evaluations=len(evaluations),
        conditions={"target": experiment.target.target().describe()},
    )


def _unscored(pick: Pick) -> ValidatedModel:
    evaluation = pick.evaluation
    latency = evaluation.details["latency"]
    return ValidatedModel(
        name=pick.name,
        role="reference" if evaluation.role == "reference" else "front",
        candidate=evaluation.candidate,
        validation_accuracy=evaluation.metrics["accuracy"],
        test_accuracy=None,
        latency_ms=(latency["median_ms"], latency["q1_ms"], latency["q3_ms"]),
        size_bytes=int(evaluation.metrics["size_bytes"]),
        coverage=evaluation.details["coverage"],
        versus={},
    )


def _by_search(pick: Pick, reference: Pick) -> Versus:
    ours, theirs = pick.evaluation.metrics, reference.evaluation.metrics
    faster = theirs["latency_ms"] / ours["latency_ms"]
    return Versus(
        accuracy_difference=ours["accuracy"] - theirs["accuracy"],
        latency_ratio=faster,
        latency_ratio_low=np.nan,
        latency_ratio_high=np.nan,
        size_ratio=theirs["size_bytes"] / ours["size_bytes"],
    )


@dataclass(frozen=True)
class Validator:
    """Exports chosen candidates and measures the files that were written."""

    exporter: Exporter
    target: Target
    seed: int
    elsewhere: LatencyQueue | None = None
    polish: Polish | None = None
    clock: Callable[[], float] = time.perf_counter

    def validate(
        self, picks: Sequence[Pick], models: Path, reporter: Reporter
    ) -> list[ValidatedModel]:
        """Write `models/<name>/` for every pick and measure all of them together."""
        if self.polish is not None:
            for pick in picks:
                if pick.evaluation.role == "search":
                    self.polish.train(pick.evaluation)
        stage = reporter.stage("validation")
        validated = []
        for number, pick in enumerate(picks):
            stage.update(number, len(picks) + 1, pick.name)
            try:
                validated.append(self._score(pick, models / pick.name))
            except REFUSED as error:
                if pick.evaluation.role == "reference":
                    raise
                reporter.say(f"{pick.name} is not exported: {error}")
        stage.update(len(picks), len(picks) + 1, "latency")
        validated = self._time(validated, models)
        for model in validated:
            folder = models / model.name
            file = folder / "preprocessor_config.json"
            preprocessing = read_json(file) if file.exists() else None
            card = model_card(model.name, model.candidate, preprocessing, model)
            write_atomically(folder / "README.md", card)
        remove_others(models, {model.name for model in validated})
        if self.polish is not None:
            self.polish.forget_others()
        stage.update(len(picks) + 1, len(picks) + 1, "")
        return validated

    def _score(self, pick: Pick, folder: Path) -> ValidatedModel:
        exporter, model = self.exporter, _unscored(pick)
        if self.polish is not None and pick.evaluation.role == "search":
            workbench, accuracy = self.polish.shipped(pick.evaluation)
            exporter = replace(exporter, workbench=workbench)
            before = model.validation_accuracy
            model = replace(model, validation_accuracy=accuracy, unpolished_accuracy=before)
        coverage = exporter.write(pick.evaluation.candidate, folder)
        path = folder / "model.onnx"
        test_accuracy = split_accuracy(
            open_session(path, self.target),
            exporter.workbench,
            pick.evaluation.candidate,
            exporter.data.test,
            self.target,
        )
        return replace(
            model,
            test_accuracy=test_accuracy,
            size_bytes=path.stat().st_size,
            coverage=coverage,
        )

    def _time(self, models: Sequence[ValidatedModel], folder: Path) -> list[ValidatedModel]:
        """Fill in latencies and the comparison with each reference."""
        files = {m.name: folder / m.name / "model.onnx" for m in models}
        workbench = self.exporter.workbench
        inputs = {m.name: workbench.example(m.candidate, self.target) for m in models}
        seconds = self._seconds(files, inputs)
        references = [model for model in models if model.role == "reference"]
        timed = []
        for model in models:
            latency = Latency.of(*calm(seconds[model.name]))
            versus = {
                reference.name: self._versus(model, reference, seconds) for reference in references
            }
            quartiles = (latency.median_ms, latency.q1_ms, latency.q3_ms)
            timed.append(replace(model, latency_ms=quartiles, versus=versus))
        return timed

    def _seconds(
        self, files: Mapping[str, Path], inputs: Mapping[str, Arrays]
    ) -> Mapping[str, Seconds]:
        """Run all models alternately, here or on the other device."""
        if self.elsewhere is None:
            sessions = {name: open_session(path, self.target) for name, path in files.items()}
            return run_times(sessions, inputs, repeats=VALIDATION_REPEATS, clock=self.clock)
        contents = {name: path.read_bytes() for name, path in files.items()}
        key = "front of " + ", ".join(sorted(contents))
        self.elsewhere.submit(key, contents, inputs, self.target, VALIDATION_REPEATS)
        return self.elsewhere.seconds(key)[0]

    def _versus(
        self, model: ValidatedModel, reference: ValidatedModel, seconds: Mapping[str, Seconds]
    ) -> Versus:
        rng = np.random.default_rng(self.seed)
        faster = ratio(seconds[reference.name], seconds[model.name], rng)
        assert model.test_accuracy is not None
        assert reference.test_accuracy is not None
        return Versus(
            accuracy_difference=model.test_accuracy - reference.test_accuracy,
            latency_ratio=faster.value,
            latency_ratio_low=faster.low,
            latency_ratio_high=faster.high,
            size_ratio=reference.size_bytes / model.size_bytes,
        )
