"""Small-data regressors with scikit-learn's contract, stored as plain numbers.

`X` is `(n_samples, n_features)`, `y` is `(n_samples,)`. All standardise both themselves. Prediction
uses nothing but the fitted arrays, so what `to_json` stores predicts the same when read back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import yeojohnson, yeojohnson_llf
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.svm import SVR

FloatArray = NDArray[np.float64]

_FARTHEST = 0.05  # keeps the inverse of a power transform finite where it has a bound


class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Standardising base: subclasses fit and predict centred, scaled numbers.

    With `warp` the target also goes through the Yeo-Johnson power transform (Yeo & Johnson 2000)
    that makes it most nearly normal, which evens out saturating or long-tailed quantities.
    Fitted arrays and numbers are attributes whose names end in an underscore.
    """

    has_posterior: ClassVar[bool] = False
    warp: bool

    def fit(self, X: FloatArray, y: FloatArray) -> Self:
        """Fit on `X`, `y`."""
        self.mean_ = X.mean(axis=0)
        spread = X.std(axis=0)
        self.scale_ = np.where(spread > 1e-12, spread, 1.0)
        self.n_features_in_ = X.shape[1]
        self.target_ = TargetScale.of(y, self.warp)
        self._fit((X - self.mean_) / self.scale_, self.target_.forward(y))
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict `(n_samples,)`."""
        return self.target_.backward(self._predict((X - self.mean_) / self.scale_))

    def predict_std(self, X: FloatArray) -> FloatArray:
        """Standard deviation of the prediction's error, noise left out, `(n_samples,)`."""
        scaled = (X - self.mean_) / self.scale_
        mean, std = self._predict(scaled), self._predict_std(scaled)
        high, low = self.target_.backward(mean + std), self.target_.backward(mean - std)
        return np.asarray((high - low) / 2)

    def to_json(self) -> dict[str, Any]:
        """Name, parameters and fitted arrays as plain lists."""
        fitted = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in sorted(vars(self).items())
            if name.endswith("_") and not name.startswith("_")
        }
        fitted["target_"] = asdict(self.target_)
        return {"name": NAMES[type(self)], "parameters": self.get_params(), "fitted": fitted}

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        raise NotImplementedError

    def _predict(self, X: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _predict_std(self, X: FloatArray) -> FloatArray:
        raise NotImplementedError


@dataclass(frozen=True)
class TargetScale:
    """How a target becomes a number with mean 0 and deviation 1: shift, power, shift again."""

    mean: float
    scale: float
    power: float = 1.0
    warped_mean: float = 0.0
    warped_scale: float = 1.0

    @classmethod
    def of(cls, y: FloatArray, warp: bool) -> Self:
        """Fit to `y`; the power is the most likely one between -1 and 3."""
        mean, scale = float(y.mean()), float(y.std()) or 1.0
        if not warp or y.std() == 0:
            return cls(mean, scale)
        z = (y - mean) / scale
        found = minimize_scalar(lambda p: -yeojohnson_llf(p, z), bounds=(-1, 3), method="bounded")
        warped = yeojohnson(z, found.x)
        return cls(mean, scale, float(found.x), float(warped.mean()), float(warped.std()))

    def forward(self, y: FloatArray) -> FloatArray:
        """Target -> number to fit."""
        z = (y - self.mean) / self.scale
        return np.asarray((yeojohnson(z, self.power) - self.warped_mean) / self.warped_scale)

    def backward(self, fitted: FloatArray) -> FloatArray:
        """Fitted number -> target; what no target can reach gives the farthest one."""
        w, power = fitted * self.warped_scale + self.warped_mean, self.power
        up, down = np.maximum(w, 0.0), np.maximum(-w, 0.0)
        if power == 0:
            above = np.expm1(up)
        else:
            above = np.maximum(1 + power * up, _FARTHEST) ** (1 / power) - 1
        if power == 2:
            below = np.expm1(down)
        else:
            below = np.maximum(1 + (2 - power) * down, _FARTHEST) ** (1 / (2 - power)) - 1
        return np.asarray((above - below) * self.scale + self.mean)


class RidgeRegressor(Regressor):
    """Linear regression with an L2 penalty chosen by leave-one-out error (closed form)."""

    has_posterior = True

    def __init__(
        self, warp: bool = False, alphas: tuple[float, ...] = tuple(np.logspace(-2, 4, 19))
    ) -> None:
        self.warp = warp
        self.alphas = alphas

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        U, s, Vt = np.linalg.svd(X, full_matrices=False)
        kept = s > 1e-9 * max(s[0], 1e-12)
        U, s, Vt = U[:, kept], s[kept], Vt[kept]
        target = U.T @ y
        errors, noises = [], []
        for alpha in self.alphas:
            shrink = s**2 / (s**2 + alpha)
            residual = y - U @ (shrink * target)
            left_out = residual / np.maximum(1 - (U**2) @ shrink - 1 / len(y), 1e-6)
            errors.append(float(np.mean(left_out**2)))
            noises.append(float(np.mean(residual * left_out)))
        chosen = int(np.argmin(errors))
        alpha = float(self.alphas[chosen])
        self.coef_ = Vt.T @ (s / (s**2 + alpha) * target)
        self.noise_ = noises[chosen]
        self.alpha_, self.directions_, self.spectrum_ = alpha, Vt, s**2

    def _predict(self, X: FloatArray) -> FloatArray:
        return np.asarray(X @ self.coef_)

    def _predict_std(self, X: FloatArray) -> FloatArray:
        projected = (X @ self.directions_.T) ** 2
        outside = np.maximum((X**2).sum(axis=1) - projected.sum(axis=1), 0.0) / self.alpha_
        inside = projected @ (1 / (self.spectrum_ + self.alpha_))
        return np.asarray(np.sqrt(self.noise_ * (inside + outside)))


class SupportVectorRegressor(Regressor):
    """Support vector regression with a Gaussian kernel of width `sqrt(n_features / gamma)`."""

    def __init__(
        self, warp: bool = False, C: float = 10.0, epsilon: float = 0.02, gamma: float = 0.3
    ) -> None:
        self.warp = warp
        self.C = C
        self.epsilon = epsilon
        self.gamma = gamma

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        self.width_ = self.gamma / X.shape[1]
        machine = SVR(C=self.C, epsilon=self.epsilon, gamma=self.width_).fit(X, y)
        self.support_vectors_ = machine.support_vectors_
        self.dual_ = machine.dual_coef_[0]
        self.intercept_ = float(machine.intercept_[0])

    def _predict(self, X: FloatArray) -> FloatArray:
        distances = squared_distances(X, self.support_vectors_)
        return np.asarray(np.exp(-self.width_ * distances) @ self.dual_ + self.intercept_)


class BoostingRegressor(Regressor):
    """Gradient-boosted regression trees of equal, small depth."""

    def __init__(
        self,
        warp: bool = False,
        n_trees: int = 40,
        depth: int = 3,
        learning_rate: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.warp = warp
        self.n_trees = n_trees
        self.depth = depth
        self.learning_rate = learning_rate
        self.seed = seed

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        forest = GradientBoostingRegressor(
            n_estimators=self.n_trees,
            max_depth=self.depth,
            learning_rate=self.learning_rate,
            subsample=0.8,
            max_features=0.3,
            random_state=self.seed,
        ).fit(X, y)
        trees = [stage[0].tree_ for stage in forest.estimators_]
        width = max(tree.node_count for tree in trees)

        def table(name: str, fill: float) -> NDArray[Any]:
            rows = [np.ravel(getattr(tree, name)) for tree in trees]
            return np.stack([np.pad(r, (0, width - len(r)), constant_values=fill) for r in rows])

        self.left_, self.right_ = table("children_left", -1), table("children_right", -1)
        self.feature_, self.threshold_ = table("feature", -2), table("threshold", 0.0)
        self.value_ = table("value", 0.0) * self.learning_rate
        self.start_ = float(np.ravel(forest.init_.constant_)[0])

    def _predict(self, X: FloatArray) -> FloatArray:
        trees = np.arange(len(self.value_))
        node = np.zeros((len(X), len(trees)), dtype=np.int64)
        rows = np.arange(len(X))[:, None]
        data = X.astype(np.float32)  # the trees' thresholds were found on single precision
        for _ in range(self.depth):
            inner = self.left_[trees, node] >= 0
            goes_left = data[rows, self.feature_[trees, node]] <= self.threshold_[trees, node]
            child = np.where(goes_left, self.left_[trees, node], self.right_[trees, node])
            node = np.where(inner, child, node)
        return np.asarray(self.value_[trees, node].sum(axis=1) + self.start_)


class GaussianProcess(Regressor):
    """Gaussian process: a linear plus a Gaussian kernel with one relevance per feature.

    Relevances, amplitudes and noise maximise the marginal likelihood (Rasmussen & Williams 2006,
    eq. 5.8) times log-normal priors, which keep many features and few samples from overfitting.
    Past `most` samples these parameters are fitted to an even selection of so many; the process
    itself always rests on all samples.
    """

    has_posterior = True

    def __init__(
        self, warp: bool = False, prior_std: float = 1.0, iterations: int = 40, most: int = 200
    ) -> None:
        self.warp = warp
        self.most = most
        self.prior_std = prior_std
        self.iterations = iterations

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        usual = np.log([*np.full(X.shape[1], 1 / X.shape[1]), 0.5, 0.5, 0.01])
        widths = np.array([*np.full(X.shape[1], self.prior_std), 2.0, 2.0, 2.0])
        some = np.linspace(0, len(y) - 1, min(len(y), self.most)).astype(int)
        X_some, y_some = X[some], y[some]

        def loss(logs: FloatArray) -> tuple[float, FloatArray]:
            value, slope = _negative_evidence(logs, X_some, y_some)
            away = (logs - usual) / widths
            return value + 0.5 * float(away @ away), slope + away / widths

        options = {"maxiter": self.iterations}
        bounds = [(log - 10, log + 10) for log in usual]
        best = minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        parameters = np.exp(best.x)
        self.relevance_, self.noise_ = parameters[:-3], float(parameters[-1])
        self.linear_, self.gaussian_ = float(parameters[-3]), float(parameters[-2])
        self.train_ = X
        self.inverse_ = np.linalg.inv(self._kernel(X) + (self.noise_ + _JITTER) * np.eye(len(X)))
        self.dual_ = self.inverse_ @ y

    def _kernel(self, X: FloatArray) -> FloatArray:
        linear, gaussian = _kernels(X, self.train_, self.relevance_)
        return self.linear_ * linear + self.gaussian_ * gaussian

    def _predict(self, X: FloatArray) -> FloatArray:
        return np.asarray(self._kernel(X) @ self.dual_)

    def _predict_std(self, X: FloatArray) -> FloatArray:
        cross = self._kernel(X)
        own = self.linear_ * (X**2 @ self.relevance_) + self.gaussian_
        explained = ((cross @ self.inverse_) * cross).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(own - explained, 0.0)))


_JITTER = 1e-6


def _kernels(A: FloatArray, B: FloatArray, relevance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Linear and Gaussian kernel of all pairs of rows, each `(len(A), len(B))`."""
    linear = (A * relevance) @ B.T
    distances = (A**2 @ relevance)[:, None] + B**2 @ relevance - 2 * linear
    return linear, np.exp(-0.5 * np.maximum(distances, 0.0))


def _negative_evidence(logs: FloatArray, X: FloatArray, y: FloatArray) -> tuple[float, FloatArray]:
    """Negative log marginal likelihood (constant left out) and its slope in the log parameters.

    With W = a a' - K^-1 the slope in a parameter t is -tr(W dK/dt) / 2 (eq. 5.9); the sums over
    pairs of samples that the relevances need collapse into matrix products.
    """
    relevance, (linear, gaussian, noise) = np.exp(logs[:-3]), np.exp(logs[-3:])
    flat, bell = _kernels(X, X, relevance)
    covariance = linear * flat + gaussian * bell + (noise + _JITTER) * np.eye(len(y))
    lower = np.linalg.cholesky(covariance)
    inverse = np.linalg.inv(covariance)
    dual = inverse @ y
    W = np.outer(dual, dual) - inverse
    G = gaussian * W * bell
    by_linear = linear * (X * (W @ X)).sum(axis=0)
    by_gaussian = (X * (G @ X)).sum(axis=0) - G.sum(axis=1) @ X**2
    slopes = [*((by_linear + by_gaussian) * relevance), linear * (W * flat).sum(), G.sum()]
    slope = -0.5 * np.array([*slopes, noise * np.trace(W)])
    return float(0.5 * y @ dual + np.log(np.diag(lower)).sum()), slope


def squared_distances(A: FloatArray, B: FloatArray) -> FloatArray:
    """Squared Euclidean distances of all pairs of rows, `(len(A), len(B))`."""
    squares = (A**2).sum(axis=1)[:, None] + (B**2).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * A @ B.T, 0.0))


REGRESSORS: dict[str, type[Regressor]] = {
    "ridge": RidgeRegressor,
    "svr": SupportVectorRegressor,
    "boosting": BoostingRegressor,
    "gp": GaussianProcess,
}
NAMES = {kind: name for name, kind in REGRESSORS.items()}


def from_json(data: dict[str, Any]) -> Regressor:
    """Inverse of `Regressor.to_json`."""
    parameters = {k: tuple(v) if isinstance(v, list) else v for k, v in data["parameters"].items()}
    regressor = REGRESSORS[data["name"]](**parameters)
    fitted = dict(data["fitted"])
    regressor.target_ = TargetScale(**fitted.pop("target_"))
    for name, value in fitted.items():
        setattr(regressor, name, np.array(value) if isinstance(value, list) else value)
    return regressor
