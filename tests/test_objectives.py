from __future__ import annotations

import numpy as np
import pytest

from nas.cost_models import ExactCosts
from nas.experiment.metrics import METRICS, Metric, find_metric
from nas.experiment.objectives import check_consistent, parse_constraint, to_costs
from nas.experiment.schema import Experiment


@pytest.mark.parametrize(
    ("text", "value", "ok"),
    [
        ("accuracy >= int8 - 0.005", 0.975, True),
        ("accuracy >= int8 - 0.5 %", 0.974, False),
        ("size_bytes <= 8 MB", 8_000_000, True),
        ("size_bytes <= 8 MiB", 8_388_609, False),
        ("bits_per_weight <= 3", 2.9, True),
        ("bits_per_weight <= 3", 3.1, False),
        ("latency_ms <= 0.5 * fp32", 2.0, True),
        ("latency_ms <= fp32 + 500 us", 4.6, False),
        ("latency_ms<=1e-2 s", 10.0, True),
        ("macs <= 1.5 G", 1.6e9, False),
    ],
)
def test_constraints_mean_what_they_say(text: str, value: float, ok: bool) -> None:
    rows = {"int8": {"accuracy": 0.98}, "fp32": {"latency_ms": 4.0}}
    constraint = parse_constraint(text).resolve(rows)
    assert (constraint.violation(np.array([value]))[0] == 0) == ok


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("accuracy > 0.9", "cannot be read"),
        ("accuracy", "cannot be read"),
        ("speed <= 3", "no metric"),
        ("size_bytes <= 8 ms", "no unit of size_bytes"),
        ("accuracy >= int9 - 0.1", "no reference row"),
    ],
)
def test_a_constraint_that_cannot_be_meant_is_refused(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_constraint(text)


def test_text_of_a_constraint_reads_back_the_same() -> None:
    for text in ("accuracy >= int8 - 0.005", "latency_ms <= 0.5 * fp32", "size_bytes <= 8 MB"):
        constraint = parse_constraint(text)
        assert parse_constraint(str(constraint)) == constraint


def test_contradicting_constraints_are_named() -> None:
    pair = [parse_constraint("accuracy >= 0.9"), parse_constraint("accuracy <= 0.8")]
    with pytest.raises(ValueError, match=r"accuracy >= 0\.9.*accuracy <= 0\.8"):
        check_consistent(pair)
    check_consistent(
        [parse_constraint("accuracy >= int8 - 0.1"), parse_constraint("accuracy <= 0.5")]
    )


def test_costs_flip_what_is_maximised_and_flip_back() -> None:
    objectives = [find_metric("accuracy"), find_metric("latency_ms")]
    values = np.array([[0.9, 3.0]])
    assert to_costs(values, objectives).tolist() == [[-0.9, 3.0]]
    assert (to_costs(to_costs(values, objectives), objectives) == values).all()


def test_a_metric_is_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = Metric("energy", "minimize", "mJ", {"mJ": 1, "J": 1e3})
    monkeypatch.setitem(METRICS, "energy", metric)
    assert parse_constraint("energy <= 2 J").bound == 2000
    with pytest.raises(ValueError, match=r"'ms' is no unit of energy; allowed are mJ, J"):
        parse_constraint("energy <= 2 ms")
    sample = {"name": "x", "model": {"vit": {}}, "data": {"name": "digits"}}
    experiment = Experiment.model_validate({**sample, "objectives": ["accuracy", "energy"]})
    assert experiment.parsed_objectives()[1] == metric
    with pytest.raises(ValueError, match=r"'enrgy' is no metric .*are energy, "):
        Experiment.model_validate({**sample, "objectives": ["enrgy"]})


def test_what_is_computed_exactly_has_its_formula() -> None:
    assert {name for name, m in METRICS.items() if m.exact} == {
        "size_bytes", "bits_per_weight", "parameters", "macs",
    }  # fmt: skip
    assert all(hasattr(ExactCosts, name) for name, metric in METRICS.items() if metric.exact)
