"""Latencies that other work disturbed: marked wherever they are shown, and not ranked by."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from hardware.formats.format import Format
from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.latency import Latency, Rounds
from nas.delivery.model_card import model_card
from nas.delivery.results import Front, ValidatedModel, Versus
from nas.delivery.selection import (
    best_so_far,
    pick_models,
    provisional_front,
    recommend,
    wanted,
)
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Evaluation, Role
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from nas.reporting.facts import Report
from nas.reporting.markdown_report import markdown
from nas.reporting.page import html
from nas.reporting.texts import front_table, recommendation
from nas.workers.remote_meter import RemoteLatency
from tests.faults.victim import write_experiment


def candidate(size: int, precision: Format) -> Candidate:
    return Candidate((("blocks.0.mlp.hidden_dim", size),), QuantPolicy({"head": precision}))


def evaluation(
    size: int,
    accuracy: float,
    latency_ms: float,
    *,
    disturbed: bool = False,
    precision: Format = INT4,
    role: Role = "search",
) -> Evaluation:
    latency = Latency(latency_ms, latency_ms, latency_ms, 10, disturbed)
    metrics = {"accuracy": accuracy, "latency_ms": latency_ms, "size_bytes": 1000.0 * size}
    return Evaluation(candidate(size, precision), metrics, Details(latency, "all layers"), role)


REFERENCES = [
    evaluation(99, 0.90, 9.0, precision=FP32, role="reference"),
    evaluation(99, 0.90, 4.0, precision=INT8, role="reference"),
]


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return load_experiment(write_experiment(tmp_path, export={"models": 2}))


def searched(evaluations: list[Evaluation], experiment: Experiment) -> list[str]:
    known = [*REFERENCES, *evaluations]
    picks = pick_models(known, wanted(known, experiment))
    return [pick.name for pick in picks if pick.evaluation.role == "search"]


def test_candidates_with_a_disturbed_latency_are_shipped_last(experiment: Experiment) -> None:
    wrong = evaluation(1, 0.95, 0.1, disturbed=True)
    known = [wrong, evaluation(2, 0.91, 2.0), evaluation(3, 0.95, 3.0)]
    assert searched(known, experiment) == [e.candidate.key for e in known[1:]]
    assert searched(known[:2], experiment) == [e.candidate.key for e in known[:2]]
    assert searched([wrong], experiment) == [wrong.candidate.key]
    assert "3.000 ms" in best_so_far([*REFERENCES, wrong, known[2]], experiment)


def model(
    name: str, latency_ms: float, *, disturbed: bool = False, role: Role = "search"
) -> ValidatedModel:
    versus = Versus(0.01, 9 / latency_ms, 1.0, 99.0, 2.0, latency_disturbed=disturbed)
    return ValidatedModel(
        name=name,
        role="front" if role == "search" else "reference",
        candidate=candidate(len(name), INT4),
        validation_score=0.9,
        test_score=0.9,
        latency_ms=(latency_ms, latency_ms, latency_ms),
        size_bytes=1000,
        coverage="all layers",
        versus={"fp32": versus, "int8": versus},
        latency_disturbed=disturbed,
    )


REFERENCE_MODELS = (model("fp32", 9.0, role="reference"), model("int8", 4.0, role="reference"))
DISTURBED = model("disturbed", 0.1, disturbed=True)


def test_a_disturbed_model_is_recommended_only_where_all_are() -> None:
    calm = model("calm", 3.0)
    assert recommend([*REFERENCE_MODELS, DISTURBED, calm], 0.0) == "calm"
    assert recommend([*REFERENCE_MODELS, DISTURBED], 0.0) == "int8"
    busy = [replace(m, latency_disturbed=True) for m in REFERENCE_MODELS]
    assert recommend([*busy, DISTURBED], 0.0) == "disturbed"


def shown(front: Front) -> list[str]:
    """Table, report as text and as a page, and the sentence."""
    terminal = io.StringIO()
    Console(width=100, file=terminal).print(front_table(front))
    report = Report("run", front, [], [], True)
    return [" ".join(terminal.getvalue().split()), markdown(report), html(report)]


def test_disturbed_figures_are_marked_wherever_they_are_shown() -> None:
    front = Front((DISTURBED, *REFERENCE_MODELS), "disturbed", 3, {})
    for text in shown(front):
        assert "disturbed: other work interrupted" in text.replace("\\", "")
        assert "0.1*" in text.replace("\\", "") or "0.100*" in text.replace("\\", "")
        assert "90x*" in text.replace("\\", "")
    assert "(disturbed by other work)" in recommendation(front)
    instead = replace(front, recommended="int8")
    assert "1 could not be timed undisturbed and may be faster" in recommendation(instead)
    card = model_card(DISTURBED.name, DISTURBED.candidate, {}, None, DISTURBED)
    assert card.count("(disturbed by other work)") == 3
    assert Front.from_json(front.to_json()) == front
    assert front.to_json()["models"][0]["latency_disturbed"] is True


def test_undisturbed_figures_have_no_mark() -> None:
    front = Front((model("calm", 3.0), *REFERENCE_MODELS), "calm", 3, {})
    assert not any("disturbed" in text for text in shown(front))
    assert "disturbed" not in model_card(
        "calm", front.models[0].candidate, {}, None, front.models[0]
    )


class Device:
    """A queue whose device measured the baseline calmly, and every candidate beside other work."""

    def submit(self, key: str, *job: object) -> None:
        pass

    def clear(self, key: str, model: str) -> None:
        pass

    def rounds(self, key: str) -> tuple[Rounds, dict[str, str]]:
        busy = key != "baseline"
        names = ["baseline", key] if busy else ["baseline"]
        seconds = {name: np.full(4, 0.002) for name in names}
        interrupted = {name: np.full(4, busy) for name in names}
        return Rounds(seconds, interrupted, 2), {"provider": "cpu"}


def test_latency_of_another_device_carries_its_mark() -> None:
    one, other = (
        SimpleNamespace(
            candidate=SimpleNamespace(key=key), key=key, content=b"", example={}, target=None
        )
        for key in ("baseline", "candidate")
    )
    parts: Any = SimpleNamespace(build=lambda _: one), one.candidate, Device()
    meter = RemoteLatency(*parts)
    calm: Any = one
    busy: Any = other
    assert not meter.begin(calm)().latency.disturbed
    assert meter.begin(busy)().latency == Latency(2.0, 2.0, 2.0, 2, disturbed=True)


def test_an_unfinished_run_carries_the_marks_of_its_search(experiment: Experiment) -> None:
    front = provisional_front([*REFERENCES, evaluation(1, 0.95, 0.1, disturbed=True)], experiment)
    assert front.front[0].latency_disturbed
    assert front.front[0].versus["int8"].latency_disturbed
    assert front.recommended == "int8"
