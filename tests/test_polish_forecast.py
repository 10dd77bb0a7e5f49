"""What polishing is foretold to gain: against the formula, and as the search is told of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation
from nas.training.polish_forecast import Polished, PolishForecast, few_bits, to_try
from predictors.gain import DOUBT, EXPECTED, NOISE, GainModel
from supernets.metrics.classes import ACCURACY
from supernets.metrics.registry import QUALITIES

NOTHING = np.zeros(0)


def evaluation(accuracy: float, latency_ms: float, int4: bool = False) -> Evaluation:
    policy = QuantPolicy({"fc": INT4 if int4 else INT8, "head": INT8})
    candidate = Candidate((("width", round(1e4 * accuracy + latency_ms)),), policy)
    metrics = {"accuracy": accuracy, "latency_ms": latency_ms, "size_bytes": 2000.0}
    return Evaluation(candidate, metrics)


def test_gains_are_a_ridge_towards_what_is_expected() -> None:
    """Bayesian regression is ridge regression of scaled columns on what the prior leaves."""
    rng = np.random.default_rng(0)
    lacking, few = rng.uniform(0, 0.1, 6), rng.uniform(0, 1, 6)
    gains = 0.8 * lacking - 0.01 * few + rng.normal(0, 0.002, 6)
    X = np.stack([np.ones(6), lacking, few], axis=1)
    ridge = Ridge(alpha=NOISE**2, fit_intercept=False).fit(X * DOUBT, gains - X @ EXPECTED)
    model = GainModel.fit(lacking, few, gains)
    assert model.mean == pytest.approx(EXPECTED + DOUBT * ridge.coef_, abs=1e-9)
    expected, error = model.predict(lacking, few)
    assert expected == pytest.approx(X @ model.mean)
    assert (error > NOISE).all()
    assert (error < GainModel.fit(NOTHING, NOTHING, NOTHING).predict(lacking, few)[1]).all()


def test_foretold_scores_hold_within_their_doubt() -> None:
    """Simulated: where polishing regains most of the drop, two that were polished tell the rest."""
    rng, within = np.random.default_rng(1), []
    for _ in range(200):
        lacking, slope = rng.uniform(0.01, 0.12, 12), rng.uniform(0.3, 1.0)
        gains = slope * lacking + rng.normal(0, NOISE, 12)
        model = GainModel.fit(lacking[:2], np.zeros(2), gains[:2])
        expected, error = model.predict(lacking[2:], np.zeros(10))
        within += list(np.abs(gains[2:] - expected) < 2 * error)
    assert np.mean(within) > 0.9


def test_candidates_are_judged_by_what_they_will_be() -> None:
    """Polished ones as they came, failures and references as they are; nothing before two."""
    known = [evaluation(0.85, 1.0), evaluation(0.80, 0.5), evaluation(0.75, 0.4, int4=True)]
    failed = replace(known[0], candidate=evaluation(0.7, 9.0).candidate, metrics={}, failure="no")
    reference = replace(evaluation(0.90, 3.0), role="reference")
    rows = {
        known[0].candidate.key: Polished(0.85, 0.89, 0.0),
        known[1].candidate.key: Polished(0.80, 0.88, 0.0),
    }
    given = [*known, failed, reference]
    found = PolishForecast(ACCURACY, 0.90, rows).polished(given)
    assert [e.candidate for e in found] == [e.candidate for e in given]
    assert [e.metrics.get("accuracy") for e in found[:2]] == [0.89, 0.88]
    assert 0.80 < found[2].metrics["accuracy"] < 0.92
    assert found[3:] == [failed, reference]
    generous = PolishForecast(ACCURACY, 0.90, rows).polished(given, doubts=3.0)
    assert generous[2].metrics["accuracy"] > found[2].metrics["accuracy"] + 0.02
    one = PolishForecast(ACCURACY, 0.90, dict(list(rows.items())[:1]))
    assert one.polished(given) == given
    assert few_bits(known[2].candidate) == 0.5


def test_what_polishing_is_worth_is_said() -> None:
    """And before any was tried, most of what a model lacks is expected back."""
    rows = {"a": Polished(0.80, 0.84, 0.0), "b": Polished(0.82, 0.82, 0.0)}
    told = PolishForecast(ACCURACY, 0.90, rows).gained()
    assert told.startswith("1 of 2 models are better for it, by +0.0200 +- 0.0200 accuracy")
    assert PolishForecast(ACCURACY, 0.90, {}).gained() == ""
    (usual,) = PolishForecast(ACCURACY, 0.90, {}, least=0).polished([evaluation(0.80, 1.0)])
    assert usual.metrics["accuracy"] == pytest.approx(0.80 + EXPECTED[0] + EXPECTED[1] * 0.10)


def test_where_less_is_better_scores_are_foretold_in_their_own_unit() -> None:
    """An error of 30,000 as one of 0.3: the same parts of it are expected back."""
    mae = QUALITIES["mae"]
    found = []
    for unit in (0.3, 30_000.0):
        known = [evaluation(a, 1.0) for a in (1.2, 1.1, 1.05)]
        known = [replace(e, metrics={"mae": unit * e.metrics["accuracy"]}) for e in known]
        rows = {known[0].candidate.key: Polished(1.2 * unit, 1.04 * unit, 0.0)}
        forecast = PolishForecast(mae, unit, rows, least=0).foretold(known)
        found.append([(row.score / unit, row.doubt / unit) for row in forecast.values()])
    small, large = np.array(found)
    assert small == pytest.approx(large)
    assert small[0] == pytest.approx([1.04, 0.0])
    assert 1.0 < small[1, 0] < 1.05


def test_the_fastest_at_drops_of_interest_are_tried() -> None:
    low = replace(evaluation(0.90, 3.0), role="reference")
    fast, slow = evaluation(0.881, 1.0), evaluation(0.880, 2.0)
    far, hopeless = evaluation(0.82, 0.8), evaluation(0.3, 0.1)
    assert to_try([hopeless, slow, far, fast], low, ACCURACY, 2, "latency_ms") == [fast, far]
    assert to_try([hopeless], low, ACCURACY, 2, "latency_ms") == [hopeless]
    large = replace(fast, metrics={**fast.metrics, "size_bytes": 9e9})
    assert to_try([hopeless, slow, far, large], low, ACCURACY, 2, "size_bytes") == [slow, far]
