from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from sklearn.linear_model import Ridge
from sklearn.svm import SVR

from nas.experiment.objectives import FloatArray
from predictors.features import cost_by_precision, levels, one_hot, precision_changes
from predictors.regressors import (
    REGRESSORS,
    BoostingRegressor,
    GaussianProcess,
    RidgeRegressor,
    SupportVectorRegressor,
    TargetScale,
    _negative_evidence,
    from_json,
)
from predictors.selection import CONTENDERS, COST_CONTENDERS, Predictor, select

Data = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Genomes and values to fit, genomes and values that were not seen."""


@pytest.fixture
def data() -> Data:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, size=(60, 8)).astype(float)
    y = np.exp(0.3 * X[:, 0] - 0.2 * X[:, 1]) + 0.1 * X[:, 2] * X[:, 3]
    return X[:40], y[:40], X[40:], y[40:]


@pytest.mark.parametrize("name", CONTENDERS | COST_CONTENDERS)
def test_json_predicts_the_same_to_the_last_bit(name: str, data: Data) -> None:
    X, y, Z, _ = data
    regressor = clone((CONTENDERS | COST_CONTENDERS)[name]).fit(X, y)
    again = from_json(json.loads(json.dumps(regressor.to_json())))
    assert np.array_equal(regressor.predict(Z), again.predict(Z))
    if regressor.has_posterior:
        assert np.array_equal(regressor.predict_std(Z), again.predict_std(Z))


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_constant_target_is_predicted_as_that_constant(name: str) -> None:
    X = np.random.default_rng(0).random((12, 3))
    regressor = REGRESSORS[name](warp=True).fit(X, np.full(12, 7.0))
    assert np.allclose(regressor.predict(X), 7.0)


def standardised(
    X: FloatArray, Z: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean, scale = X.mean(axis=0), X.std(axis=0)
    return (X - mean) / scale, (Z - mean) / scale, (y - y.mean()) / y.std()


def test_ridge_equals_scikit_learn_at_its_penalty(data: Data) -> None:
    X, y, Z, _ = data
    ours = RidgeRegressor().fit(X, y)
    A, B, t = standardised(X, Z, y)
    theirs = Ridge(alpha=ours.alpha_, fit_intercept=False).fit(A, t).predict(B)
    assert np.allclose(ours.predict(Z), theirs * y.std() + y.mean())


def test_support_vectors_equal_scikit_learn(data: Data) -> None:
    X, y, Z, _ = data
    A, B, t = standardised(X, Z, y)
    theirs = SVR(C=10.0, epsilon=0.02, gamma=0.3 / 8).fit(A, t).predict(B)
    ours = SupportVectorRegressor().fit(X, y).predict(Z)
    assert np.allclose(ours, theirs * y.std() + y.mean(), atol=5e-3)  # libsvm stops at 1e-3


def test_boosting_equals_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    X, Z = rng.standard_normal((40, 6)), rng.standard_normal((20, 6))  # no ties between splits
    y = X[:, 0] * X[:, 1] + X[:, 2]
    ours = BoostingRegressor(n_trees=30)
    A, B, t = standardised(X, Z, y)
    theirs = GradientBoostingRegressor(
        n_estimators=30,
        learning_rate=ours.learning_rate,
        max_depth=3,
        subsample=0.8,
        max_features=0.3,
        random_state=0,
    ).fit(A, t)
    assert np.allclose(ours.fit(X, y).predict(Z), theirs.predict(B) * y.std() + y.mean())


def test_gaussian_process_equals_scikit_learn_at_its_parameters(data: Data) -> None:
    X, y, Z, _ = data
    ours = GaussianProcess().fit(X, y)
    A, B, t = standardised(X, Z, y)
    root = np.sqrt(ours.relevance_)
    kernel = ConstantKernel(ours.linear_) * DotProduct(sigma_0=0) + ConstantKernel(
        ours.gaussian_
    ) * RBF(1.0)
    theirs = GaussianProcessRegressor(kernel, alpha=ours.noise_ + 1e-6, optimizer=None)
    mean, std = theirs.fit(A * root, t).predict(B * root, return_std=True)
    assert np.allclose(ours.predict(Z), mean * y.std() + y.mean())
    assert np.allclose(ours.predict_std(Z), std * y.std(), atol=1e-6)


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


def test_selection_reports_scores_baselines_and_reads_back(data: Data) -> None:
    X, y, Z, truth = data
    predictor = select(X, y, cheap=X[:, :1])
    assert set(predictor.baselines) == {"mean", "costs"}
    best = max(score.kendall_tau for score in predictor.scores.values())
    assert predictor.score.kendall_tau >= best - 0.03
    assert predictor.beats_baselines
    assert predictor.score.rmse < predictor.baselines["mean"].rmse
    again = Predictor.from_json(json.loads(json.dumps(predictor.to_json())))
    assert np.array_equal(predictor.predict(Z), again.predict(Z))
    assert np.array_equal(predictor.predict_std(Z), again.predict_std(Z))
    assert np.corrcoef(predictor.predict(Z), truth)[0, 1] > 0.8


def test_noise_does_not_beat_its_baselines() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.random((40, 5)), np.zeros(40)
    assert not select(X, y).beats_baselines


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
