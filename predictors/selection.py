"""The best regressor for the data at hand, judged on data it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.model_selection import KFold

from predictors.regressors import (
    BoostingRegressor,
    GaussianProcess,
    Regressor,
    RidgeRegressor,
    SupportVectorRegressor,
    from_json,
)

FloatArray = NDArray[np.float64]


CONTENDERS: dict[str, Regressor] = {
    "ridge": RidgeRegressor(),
    "ridge-warped": RidgeRegressor(warp=True),
    "svr-warped": SupportVectorRegressor(warp=True),
    "boosting": BoostingRegressor(),
    "gp-warped": GaussianProcess(warp=True),
}
"""The better of each family with and without warping (measured), the quick ones first."""

COST_CONTENDERS: dict[str, Regressor] = {"ridge": RidgeRegressor(), "gp": GaussianProcess()}
"""For what adds up over the layers, as latency does: warping bends what was straight, and after the
first round (10 very different candidates) warped ridge was wrong by 100 %, these by 5 to 7 %."""

_AS_GOOD_AS_EXACT = 0.99  # held-out tau after which slower contenders are not tried
_NEAR_TIE = 0.03  # differences in held-out tau that a few dozen samples do not tell apart


@dataclass(frozen=True)
class Score:
    """How well predictions of unseen samples rank and match them."""

    kendall_tau: float
    rmse: float

    @classmethod
    def of(cls, y: FloatArray, predicted: FloatArray) -> Self:
        """Compare predictions with the truth; tau is 0 where it is undefined (a constant)."""
        tau = float(kendalltau(y, predicted).statistic)
        return cls(tau if np.isfinite(tau) else 0.0, float(np.sqrt(np.mean((y - predicted) ** 2))))


@dataclass(frozen=True)
class Predictor:
    """The chosen regressor, every contender's held-out score, and the baselines'.

    spread: standard deviation of its held-out error, used where it has no posterior of its own.
    held_out: its cross-validated predictions of the samples it was chosen on, in their order.
    """

    name: str
    regressor: Regressor
    scores: Mapping[str, Score]
    baselines: Mapping[str, Score]
    spread: float
    held_out: tuple[float, ...]

    @property
    def score(self) -> Score:
        """Held-out score of the chosen regressor."""
        return self.scores[self.name]

    @property
    def beats_baselines(self) -> bool:
        """Whether it ranks better than every baseline does."""
        return all(self.score.kendall_tau > base.kendall_tau for base in self.baselines.values())

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict `(n_samples,)`."""
        return self.regressor.predict(X)

    def predict_std(self, X: FloatArray) -> FloatArray:
        """Standard deviation of the prediction `(n_samples,)`."""
        if self.regressor.has_posterior:
            return self.regressor.predict_std(X)
        return np.full(len(X), self.spread)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dicts, read back by `from_json`."""
        return {
            "name": self.name,
            "regressor": self.regressor.to_json(),
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "baselines": {name: asdict(score) for name, score in self.baselines.items()},
            "beats_baselines": self.beats_baselines,
            "spread": self.spread,
            "held_out": list(self.held_out),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(
            data["name"],
            from_json(data["regressor"]),
            {name: Score(**score) for name, score in data["scores"].items()},
            {name: Score(**score) for name, score in data["baselines"].items()},
            data["spread"],
            tuple(data["held_out"]),
        )


def select(
    X: FloatArray,
    y: FloatArray,
    cheap: FloatArray | None = None,
    contenders: Mapping[str, Regressor] = CONTENDERS,
    seed: int = 0,
) -> Predictor:
    """Choose a regressor by cross-validated Kendall tau, then fit it on everything.

    Args:
        X: features `(n_samples, n_features)`.
        y: what to predict `(n_samples,)`.
        cheap: columns such as MACs and bytes; ridge on them alone is a baseline beside the mean.
        contenders: what to choose from, tried in order until one ranks as good as exactly.
        seed: seed of the folds.

    Raises:
        ValueError: fewer than 4 samples.
    """
    if len(y) < 4:
        raise ValueError(
            f"predictors: {len(y)} measured candidates are too few to fit and judge a predictor; "
            "at least 4 must succeed"
        )
    folds = 3 if len(y) > 60 else min(5, len(y) // 2)
    splits = list(KFold(folds, shuffle=True, random_state=seed).split(X))

    def held_out(regressor: Regressor, data: FloatArray) -> FloatArray:
        predicted = np.empty(len(y))
        for train, test in splits:
            predicted[test] = regressor.fit(data[train], y[train]).predict(data[test])
        return predicted

    predictions: dict[str, FloatArray] = {}
    scores: dict[str, Score] = {}
    for name, kind in contenders.items():
        predictions[name] = held_out(clone(kind), X)
        scores[name] = Score.of(y, predictions[name])
        if scores[name].kendall_tau >= _AS_GOOD_AS_EXACT:
            break
    chosen = _preferred(scores, contenders)
    means = np.empty(len(y))
    for train, test in splits:
        means[test] = y[train].mean()
    baselines = {"mean": Score(0.0, Score.of(y, means).rmse)}
    if cheap is not None:
        baselines["costs"] = Score.of(y, held_out(RidgeRegressor(), cheap))
    regressor = clone(contenders[chosen]).fit(X, y)
    judged = tuple(predictions[chosen].tolist())
    return Predictor(chosen, regressor, scores, baselines, scores[chosen].rmse, judged)


def _preferred(scores: Mapping[str, Score], contenders: Mapping[str, Regressor]) -> str:
    """The best by tau; in a near tie the last contender that knows its own uncertainty."""
    bar = max(score.kendall_tau for score in scores.values()) - _NEAR_TIE
    tied = [name for name in scores if scores[name].kendall_tau >= bar]
    knowing = [name for name in tied if contenders[name].has_posterior]
    return knowing[-1] if knowing else max(tied, key=lambda name: scores[name].kendall_tau)
