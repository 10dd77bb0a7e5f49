"""What the report computes from a run: progress, effects of genes, drawings."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.delivery.promise import NEEDS, Offer, Promise
from nas.delivery.results import smaller
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation
from nas.experiment.metrics import find_metric
from nas.reporting.confusion import Confusion
from nas.reporting.drawing import WHOLE, block_of
from nas.reporting.halves import halves
from nas.reporting.needs import needs_of
from nas.reporting.offers import offer_lines, offers_table
from nas.reporting.page import html, picture_of
from nas.reporting.run_status import Overview
from nas.reporting.search_history import minutes_of, steps_of
from nas.run.pace import Pace
from nas.run.run_folder import RunFolder
from nas.search.effects import effects_of_genes
from nas.search.problem import History
from nas.search.surrogate import Surrogate
from supernets.space.space import Choice
from tests.sample_problems import block_problem, measure
from tests.sample_report import sample_report


def at(evaluation: Evaluation, finished_s: float | None, duration_s: float) -> Evaluation:
    details = replace(evaluation.details, duration_s=duration_s)
    return replace(evaluation, finished_s=finished_s, details=details)


def test_minutes_count_no_pause_and_nothing_twice() -> None:
    one = sample_report().evaluations[0]
    # 60 s of work, a pause of an hour, 60 s, then another process' 90 s of which 60 s overlap.
    done = [at(one, 60.0, 60.0), at(one, 3720.0, 60.0), at(one, 3750.0, 90.0)]
    assert minutes_of(done) == pytest.approx([1.0, 2.0, 2.5])
    assert minutes_of([at(one, None, 1.0)]) == [None]


def test_progress_is_the_volume_covered_so_far() -> None:
    """Of one objective and one cost in two dimensions, counted cell by cell."""
    report = sample_report()
    metrics = [find_metric("accuracy"), find_metric("latency_ms")]
    steps = steps_of(report.evaluations, metrics)
    known = sorted(report.evaluations, key=lambda e: e.finished_s or 0)
    costs = np.array([[-e.metrics["accuracy"], e.metrics["latency_ms"]] for e in known])
    low, high = costs.min(axis=0), costs.max(axis=0)
    reference = high + 0.1 * (high - low)
    rng = np.random.default_rng(0)
    darts = low + rng.random((20_000, 2)) * (reference - low)
    hit = (darts[:, None, :] >= costs[None]).all(axis=2)
    covered = np.maximum.accumulate(hit, axis=1).mean(axis=0)
    assert [s.hypervolume for s in steps] == pytest.approx(covered / covered[-1], abs=0.02)
    assert [s.key for s in steps] == [e.candidate.key for e in known]


def test_effects_are_what_predictions_change_by() -> None:
    """Of a metric that is a sum over layers: the summand's change, whatever the others are."""
    bare = block_problem(2, ("size_bytes",))
    problem = block_problem(
        2, ("size_bytes",), exact={"size_bytes": lambda genomes: measure(bare, genomes)[:, 0]}
    )
    genomes = problem.space.sample(40, np.random.default_rng(0))
    history = History.empty(problem).append(genomes, measure(problem, genomes))
    found = effects_of_genes(Surrogate.fit(problem, history, 0), genomes)["size_bytes"]
    active = genomes[problem.space.active(genomes)[:, 4]]
    picked = active[np.unique(np.linspace(0, len(active) - 1, 32).round().astype(int))]
    mean_width = (picked[:, 3] + 2).mean()
    assert found["blocks.1.precision"] == pytest.approx(
        {"int4": mean_width * (4 - 32) * 10, "int8": mean_width * (8 - 32) * 10, "fp32": 0.0}
    )


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("blocks.3.attention.num_heads", "blocks.3"),
        ("stages.1.blocks.2.width", "stages.1.blocks.2"),
        ("stages.1.width", "stages.1"),
        ("head.precision", WHOLE),
        ("depth", WHOLE),
    ],
)
def test_blocks_are_told_from_paths(name: str, block: str) -> None:
    assert block_of(name) == block


def test_the_picture_holds_every_measured_candidate_and_what_it_dropped() -> None:
    report = sample_report()
    picture = picture_of(report)
    names = {point["name"] for point in picture["points"]}
    keys = {e.candidate.key for e in report.evaluations}
    assert names == keys | {"fp32", "int8"}
    shallow = next(e for e in report.evaluations if dict(e.candidate.architecture)["depth"] == 1)
    point = next(p for p in picture["points"] if p["name"] == shallow.candidate.key)
    dropped = {
        g["block"] for g, v in zip(picture["genes"], point["values"], strict=True) if v is None
    }
    assert dropped == {"blocks.1", "blocks.2"}
    full = next(p for p in picture["points"] if p["name"] == picture["full"])
    assert [g["full"] for g in picture["genes"]] == full["values"]


def test_a_metric_of_the_users_own_is_drawn_like_others() -> None:
    report = sample_report(metric="own:half")
    assert picture_of(report)["axes"][0] == {
        "name": "own:half",
        "title": "validation half",
        "larger": True,
    }
    assert "validation half" in html(report)


def test_confusion_counts_every_sample_once() -> None:
    """Against a count by hand: classes a, b; 0 of a gained, one of b lost, one answer for a new."""
    targets = np.array([0, 0, 1, 1, 1])
    ours, theirs = np.eye(2)[[0, 1, 1, 0, 1]], np.eye(2)[[0, 0, 1, 1, 0]]
    found = Confusion.of((ours, targets), (theirs, targets), ("a", "b"))
    assert found is not None
    assert found.classes == (("a", "2", "1", "0", "1", "0"), ("b", "3", "1", "1", "1", "0"))
    assert found.changes == (("a", "b", "2"), ("b", "a", "1"))
    several = np.eye(2)[[0, 1, 1, 0, 1]]
    assert Confusion.of((ours, several), (theirs, several), ("a", "b")) is None
    assert Confusion.of((ours, targets * 0.5), (theirs, targets), ("a", "b")) is None


def test_minutes_left_follow_the_plan_or_what_candidates_took(tmp_path: Path) -> None:
    report = sample_report()  # 6 s a candidate
    known = [e for e in report.evaluations if e.role == "search"]
    overview = Overview(RunFolder(tmp_path), "search", 10, 40, known)
    assert overview.minutes_left(Pace()) == pytest.approx(30 * 6 / 60)
    plan = Pace(predicted_s={"tuning": 500.0, "search": 120.0, "polish": 30.0, "validation": 60.0})
    assert overview.minutes_left(plan) == pytest.approx((0.75 * 120 + 90) / 60)
    assert replace(overview, stage="references", total=None).minutes_left(Pace()) is None
    assert "  search: now" in list(overview.stages())


def test_offers_fit_the_terminal_they_are_printed_in() -> None:
    promise = Promise(-0.01, -0.03, 0.01, 0.2, 100, True, 0.0, -0.01, -0.035, 0.015)
    front = sample_report().front
    offered = tuple(Offer(need, front.models[0].name, promise) for need in NEEDS)
    front = replace(front, offers=offered)
    printed = io.StringIO()
    Console(file=printed, width=80).print(offers_table(front))
    assert "…" not in printed.getvalue()
    assert printed.getvalue().count("-0.010 ±0.025") == len(NEEDS)
    assert len(offer_lines(front)) == len(NEEDS)
    assert "expected on test -0.0100 (-0.0350 to +0.0150)" in offer_lines(front)[0]
    first = needs_of(front)[0]
    assert dict(first.known)["against int8 on 100 validation samples"].endswith("p = 0.2")


def test_a_larger_file_is_not_called_smaller() -> None:
    assert [smaller(ratio) for ratio in (4.0, 1.0, 0.5)] == [
        "4.00x smaller",
        "1.00x smaller",
        "2.00x larger",
    ]


def test_the_halves_of_a_network_are_told_apart() -> None:
    """Two blocks are left, the last of which only looks at texts."""
    sizes: dict[str, Choice] = {
        "blocks.0.image.attention.num_heads": 4,
        "blocks.0.image.mlp.hidden_dim": 24,
        "blocks.0.text.attention.num_heads": 1,
        "blocks.0.text.mlp.hidden_dim": 8,
        "blocks.1.image.attention.num_heads": 1,
        "blocks.1.image.mlp.hidden_dim": 8,
        "blocks.2.image.attention.num_heads": 3,
        "blocks.2.image.mlp.hidden_dim": 12,
    }
    policy = {
        "patch_embed": FP32,
        "blocks.0.image.mlp.fc1": INT8,
        "blocks.0.text.mlp.fc1": INT4,
        "blocks.2.image.mlp.fc1": INT4,
        "blocks.2.text.attention.key": INT8,
    }
    candidate = Candidate(tuple(sorted(sizes.items())), QuantPolicy(policy))
    report = sample_report()
    model = replace(report.front.models[0], candidate=candidate)
    assert halves(report.front) == []
    assert halves(replace(report.front, models=(model,))) == [
        (model.name, "image", "2", "3.5", "18.0", "6.0"),
        (model.name, "text", "2", "1.0", "8.0", "6.0"),
    ]
