"""Small-data regressors with scikit-learn's contract, stored as plain numbers.

`X` is `(n_samples, n_features)`, `y` is `(n_samples,)`. All standardise both themselves. Prediction
uses nothing but the fitted arrays, so what `to_json` stores predicts the same when read back.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.svm import SVR

FloatArray = NDArray[np.float64]


class Regressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Standardising base: subclasses fit and predict centred, scaled numbers.

    Fitted arrays and numbers are attributes whose names end in an underscore.
    """

    has_posterior: ClassVar[bool] = False

    def fit(self, X: FloatArray, y: FloatArray) -> Self:
        """Fit on `X`, `y`."""
        self.mean_ = X.mean(axis=0)
        spread = X.std(axis=0)
        self.scale_ = np.where(spread > 1e-12, spread, 1.0)
        self.y_mean_ = float(y.mean())
        self.y_scale_ = float(y.std()) or 1.0
        self.n_features_in_ = X.shape[1]
        self._fit((X - self.mean_) / self.scale_, (y - self.y_mean_) / self.y_scale_)
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict `(n_samples,)`."""
        return np.asarray(
            self._predict((X - self.mean_) / self.scale_) * self.y_scale_ + self.y_mean_
        )

    def predict_std(self, X: FloatArray) -> FloatArray:
        """Standard deviation of the prediction's error, noise left out, `(n_samples,)`."""
        return np.asarray(self._predict_std((X - self.mean_) / self.scale_) * self.y_scale_)

    def to_json(self) -> dict[str, Any]:
        """Name, parameters and fitted arrays as plain lists."""
        fitted = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in sorted(vars(self).items())
            if name.endswith("_") and not name.startswith("_")
        }
        return {"name": NAMES[type(self)], "parameters": self.get_params(), "fitted": fitted}

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        raise NotImplementedError

    def _predict(self, X: FloatArray) -> FloatArray:
        raise NotImplementedError

    def _predict_std(self, X: FloatArray) -> FloatArray:
        raise NotImplementedError


class RidgeRegressor(Regressor):
    """Linear regression with an L2 penalty chosen by leave-one-out error (closed form)."""

    has_posterior = True

    def __init__(self, alphas: tuple[float, ...] = tuple(np.logspace(-2, 4, 19))) -> None:
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

    def __init__(self, C: float = 10.0, epsilon: float = 0.02, gamma: float = 0.3) -> None:
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
        self, n_trees: int = 150, depth: int = 3, learning_rate: float = 0.08, seed: int = 0
    ) -> None:
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
    """Gaussian process whose kernel mixes a linear and a Gaussian part.

    Mixture, width and noise maximise the marginal likelihood (Rasmussen & Williams 2006,
    eq. 5.8) over a small grid; the kernel's amplitude has a closed form.
    """

    has_posterior = True

    def __init__(
        self,
        mixtures: tuple[float, ...] = (0.05, 0.3, 0.6, 0.9, 0.98),
        widths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0),
        noises: tuple[float, ...] = tuple(np.logspace(-5, 0, 11)),
    ) -> None:
        self.mixtures = mixtures
        self.widths = widths
        self.noises = noises

    def _fit(self, X: FloatArray, y: FloatArray) -> None:
        linear, distances = X @ X.T / X.shape[1], squared_distances(X, X) / X.shape[1]
        best = (-np.inf, 0.0, 0.0, 0.0, 0.0)
        for width in self.widths:
            gaussian = np.exp(-0.5 * distances / width**2)
            for mixture in self.mixtures:
                values, vectors = np.linalg.eigh(mixture * linear + (1 - mixture) * gaussian)
                target = (vectors.T @ y) ** 2
                spectra = np.maximum(values, 0.0) + np.array(self.noises)[:, None]
                amplitude = (target / spectra).mean(axis=1)
                evidence = -0.5 * (np.log(spectra).sum(axis=1) + len(y) * np.log(amplitude))
                top = int(np.argmax(evidence))
                found = (float(evidence[top]), mixture, width, self.noises[top], amplitude[top])
                best = max(best, found)
        _, self.mixture_, self.width_, noise, amplitude = best
        self.noise_, self.amplitude_ = float(noise), float(amplitude)
        self.train_ = X
        kernel = self._kernel(X) + self.noise_ * np.eye(len(X))
        self.inverse_ = np.linalg.inv(kernel)
        self.dual_ = self.inverse_ @ y

    def _kernel(self, X: FloatArray) -> FloatArray:
        n_features = X.shape[1]
        gaussian = np.exp(squared_distances(X, self.train_) * (-0.5 / n_features / self.width_**2))
        return np.asarray(
            self.mixture_ / n_features * (X @ self.train_.T) + (1 - self.mixture_) * gaussian
        )

    def _predict(self, X: FloatArray) -> FloatArray:
        return np.asarray(self._kernel(X) @ self.dual_)

    def _predict_std(self, X: FloatArray) -> FloatArray:
        cross = self._kernel(X)
        own = self.mixture_ * (X**2).mean(axis=1) + 1 - self.mixture_
        explained = np.einsum("ij,jk,ik->i", cross, self.inverse_, cross, optimize=True)
        return np.asarray(np.sqrt(self.amplitude_ * np.maximum(own - explained, 0.0)))


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
    for name, value in data["fitted"].items():
        setattr(regressor, name, np.array(value) if isinstance(value, list) else value)
    return regressor
