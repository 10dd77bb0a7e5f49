from __future__ import annotations

import json
from typing import Self

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn import linear_model
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

from nas.experiment.objectives import FloatArray
from predictors.estimators import ESTIMATORS, Ridge, Scaled, TargetScale, _negative_evidence
from predictors.features import cost_by_precision, levels, one_hot, precision_changes
from predictors.selection import Judgement, Score, select

Data = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Genomes and values to fit, genomes and values that were not seen."""


@pytest.fixture
def data() -> Data:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, size=(60, 8)).astype(float)
    y = np.exp(0.3 * X[:, 0] - 0.2 * X[:, 1]) + 0.1 * X[:, 2] * X[:, 3]
    return X[:40], y[:40], X[40:], y[40:]


@pytest.mark.parametrize("constant", [7.0, 0.3, 0.0])  # the mean of ten times 0.3 is not 0.3
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_constant_target_is_predicted_as_that_constant(name: str, constant: float) -> None:
    X = np.random.default_rng(0).random((10, 3))
    estimator = clone(ESTIMATORS[name]).fit(X, np.full(10, constant))
    assert np.allclose(estimator.predict(X), constant)


def standardised(
    X: FloatArray, Z: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean, scale = X.mean(axis=0), X.std(axis=0)
    return (X - mean) / scale, (Z - mean) / scale, (y - y.mean()) / y.std()


def test_ridge_is_scikit_learn_on_standardised_numbers(data: Data) -> None:
    X, y, Z, _ = data
    ours = clone(ESTIMATORS["ridge"]).fit(X, y)
    A, B, t = standardised(X, Z, y)
    theirs = linear_model.Ridge(alpha=ours.estimator_.alpha_).fit(A, t).predict(B)
    assert np.allclose(ours.predict(Z), theirs * y.std() + y.mean())


def test_the_posterior_of_ridge_is_bayesian_regression(data: Data) -> None:
    """Weights of variance noise / alpha; the reference is the dual, a Gaussian process."""
    X, y, Z, _ = data
    A, B, t = standardised(X, Z, y)
    ridge = Ridge().fit(A, t)
    one_less = [(np.delete(A, i, 0), np.delete(t, i)) for i in range(len(t))]
    theirs = [linear_model.Ridge(ridge.alpha_).fit(*rest) for rest in one_less]
    left_out = [t[i] - fitted.predict(A[[i]]) for i, fitted in enumerate(theirs)]
    noise = np.mean(np.abs((t - ridge.predict(A)) * np.ravel(left_out)))
    kernel = ConstantKernel(noise / ridge.alpha_) * DotProduct(sigma_0=0)
    dual = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(A, t)
    assert np.allclose(ridge.predict(B, return_std=True)[1], dual.predict(B, return_std=True)[1])


def test_gaussian_process_equals_scikit_learn_at_its_parameters(data: Data) -> None:
    X, y, Z, _ = data
    scaled = clone(ESTIMATORS["gp"]).fit(X, y)
    ours, (A, B, t) = scaled.estimator_, standardised(X, Z, y)
    root = np.sqrt(ours.relevance_)
    kernel = ConstantKernel(ours.linear_) * DotProduct(sigma_0=0) + ConstantKernel(
        ours.gaussian_
    ) * RBF(1.0)
    theirs = GaussianProcessRegressor(kernel, alpha=ours.noise_ + 1e-6, optimizer=None)
    mean, std = theirs.fit(A * root, t).predict(B * root, return_std=True)
    known, unsure = scaled.predict(Z, return_std=True)
    assert np.allclose(known, scaled.predict(Z))
    assert np.allclose(known, mean * y.std() + y.mean())
    assert np.allclose(unsure, std * y.std(), atol=1e-6)


def test_evidence_slopes_are_its_derivatives() -> None:
    rng = np.random.default_rng(1)
    X, y, logs = rng.standard_normal((15, 4)), rng.standard_normal(15), rng.standard_normal(7)

    def value(logs: FloatArray) -> float:
        return _negative_evidence(logs, X, y)[0]

    assert check_grad(value, lambda logs: _negative_evidence(logs, X, y)[1], logs) < 1e-4


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0, 2.0, 2.7])
def test_target_scale_goes_back_to_where_it_came_from(power: float) -> None:
    y = np.linspace(-2, 3, 11)
    scale = TargetScale(0.4, 1.3, power, 0.2, 0.9)
    assert np.allclose(scale.backward(scale.forward(y)), y)
    assert (np.diff(scale.backward(np.linspace(-50, 50, 101))) >= 0).all()


def test_what_no_target_reaches_is_predicted_all_the_same() -> None:
    """A long tail towards zero: its power has a bound, beyond which scikit-learn gives NaN."""
    X = np.linspace(0, 1, 30)[:, None]
    y = -np.exp(-6 * X[:, 0])
    mean, std = clone(ESTIMATORS["gp-warped"]).fit(X, y).predict(4 * X, return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()


class Nearest(RegressorMixin, BaseEstimator):  # type: ignore[misc] # sklearn has no types
    """An estimator from outside, which does not know how sure it is."""

    def fit(self, X: FloatArray, y: FloatArray) -> Self:
        self.X_, self.y_ = X, y
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        distances = ((X[:, None] - self.X_) ** 2).sum(axis=2)
        return np.asarray(self.y_[distances.argmin(axis=1)])


def test_an_estimator_from_outside_is_judged_and_chosen(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y, _, _ = data
    monkeypatch.setitem(ESTIMATORS, "nearest", Scaled(Nearest()))
    predictor = select(np.repeat(X, 2, axis=0), np.repeat(y, 2), contenders=["nearest"])
    assert predictor.judgement.name == "nearest"
    assert np.allclose(predictor.predict(X), y)
    assert np.allclose(predictor.predict_std(X), predictor.judgement.score.rmse)


def test_selection_reports_scores_and_baselines_and_reads_them_back(data: Data) -> None:
    X, y, Z, truth = data
    predictor = select(X, y, cheap=X[:, :1])
    told = predictor.judgement
    assert set(told.baselines) == {"mean", "costs"}
    best = max(score.kendall_tau for score in told.scores.values())
    assert told.score.kendall_tau >= best - 0.03
    assert told.beats_baselines
    assert told.score.rmse < told.baselines["mean"].rmse
    kept = json.loads(json.dumps(told.to_json()))
    assert Judgement.from_json(kept) == Judgement.from_json(told.to_json())
    assert Judgement.from_json(kept).held_out == told.held_out
    assert np.corrcoef(predictor.predict(Z), truth)[0, 1] > 0.8


def test_what_version_0_1_wrote_of_a_predictor_is_read() -> None:
    """It wrote the whole fitted regressor down."""
    scores = {"ridge": {"kendall_tau": 0.5, "rmse": 0.1}}
    regressor = {"name": "ridge", "parameters": {"warp": False}, "fitted": {"coef_": [1.0]}}
    old = {"name": "ridge", "regressor": regressor, "scores": scores, "spread": 0.1}
    old |= {"baselines": {"mean": {"kendall_tau": 0.0, "rmse": 0.2}}, "held_out": [1.0, 2.0]}
    told = Judgement.from_json({**old, "beats_baselines": True})
    assert told.score == Score(0.5, 0.1)
    assert told.beats_baselines
    assert told.parameters == {"warp": False}


def test_noise_does_not_beat_its_baselines() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.random((40, 5)), np.zeros(40)
    assert not select(X, y).judgement.beats_baselines


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        select(np.zeros((3, 2)), np.zeros(3))


def test_one_hot_and_levels_mask_switched_off_genes() -> None:
    genomes, n_choices = np.array([[2, 0, 0], [0, 0, 1]]), np.array([3, 1, 2])
    active = np.array([[True, True, False], [True, True, True]])
    assert one_hot(genomes, n_choices, active).tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert levels(genomes, n_choices, active).tolist() == [[1, 0], [0, 1]]


def test_costs_go_to_the_column_of_their_precision() -> None:
    cost, precision = np.array([[5.0, 0.0, 7.0]]), np.array([[1, 0, 1]])
    assert cost_by_precision(cost, precision, 2).tolist() == [[0, 12]]
    assert cost_by_precision(cost, np.array([[1, 0, 0]]), 2).tolist() == [[7, 5]]


def test_precision_changes_skip_absent_layers() -> None:
    precision = np.array([[0, 1, 0, 1]])
    exists = np.array([[True, False, True, True]])
    assert precision_changes(precision, exists, 2).tolist() == [[1, 1, 0, 0]]
