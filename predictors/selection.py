"""The best estimator for the data at hand, judged on data it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.model_selection import KFold

from predictors.estimators import ESTIMATORS, Scaled

FloatArray = NDArray[np.float64]


CONTENDERS = ("ridge", "ridge-warped", "svr-warped", "boosting", "gp-warped")
"""The better of each estimator with and without warping (measured), the quick ones first."""

COST_CONTENDERS = ("ridge", "gp")
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
class Judgement:
    """What was chosen, every contender's held-out score, and the baselines'.

    held_out: cross-validated predictions of the samples it was chosen on, in their order.
    """

    name: str
    parameters: Mapping[str, Any]
    scores: Mapping[str, Score]
    baselines: Mapping[str, Score]
    held_out: tuple[float, ...]

    @property
    def score(self) -> Score:
        """Held-out score of the chosen estimator."""
        return self.scores[self.name]

    @property
    def beats_baselines(self) -> bool:
        """Whether it ranks better than every baseline does."""
        return all(self.score.kendall_tau > base.kendall_tau for base in self.baselines.values())

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dicts, read back by `from_json`."""
        return {**asdict(self), "beats_baselines": self.beats_baselines}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`. Version 0.1.0 wrote the whole fitted regressor down."""
        return cls(
            data["name"],
            data["regressor"]["parameters"] if "regressor" in data else data["parameters"],
            {name: Score(**score) for name, score in data["scores"].items()},
            {name: Score(**score) for name, score in data["baselines"].items()},
            tuple(data["held_out"]),
        )


@dataclass(frozen=True)
class Predictor:
    """A fitted estimator and how it was judged."""

    estimator: Scaled
    judgement: Judgement

    def predict(self, X: FloatArray) -> FloatArray:
        """Predict `(n_samples,)`."""
        return np.asarray(self.estimator.predict(X))

    def predict_std(self, X: FloatArray) -> FloatArray:
        """Standard deviation of the prediction `(n_samples,)`: its own, else of held-out errors."""
        if self.estimator.has_posterior:
            return np.asarray(self.estimator.predict(X, return_std=True)[1])
        return np.full(len(X), self.judgement.score.rmse)


def select(
    X: FloatArray,
    y: FloatArray,
    cheap: FloatArray | None = None,
    contenders: Sequence[str] = CONTENDERS,
    seed: int = 0,
) -> Predictor:
    """Choose an estimator by cross-validated Kendall tau, then fit it on everything.

    Args:
        X: features `(n_samples, n_features)`.
        y: what to predict `(n_samples,)`.
        cheap: columns such as MACs and bytes; ridge on them alone is a baseline beside the mean.
        contenders: names in `ESTIMATORS`, tried in order until one ranks as good as exactly.
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

    def held_out(name: str, data: FloatArray) -> FloatArray:
        predicted, estimator = np.empty(len(y)), clone(ESTIMATORS[name])
        for train, test in splits:
            predicted[test] = estimator.fit(data[train], y[train]).predict(data[test])
        return predicted

    predictions: dict[str, FloatArray] = {}
    scores: dict[str, Score] = {}
    for name in contenders:
        predictions[name] = held_out(name, X)
        scores[name] = Score.of(y, predictions[name])
        if scores[name].kendall_tau >= _AS_GOOD_AS_EXACT:
            break
    chosen = _preferred(scores)
    means = np.empty(len(y))
    for train, test in splits:
        means[test] = y[train].mean()
    baselines = {"mean": Score(0.0, Score.of(y, means).rmse)}
    if cheap is not None:
        baselines["costs"] = Score.of(y, held_out("ridge", cheap))
    estimator = clone(ESTIMATORS[chosen]).fit(X, y)
    parameters, judged = estimator.estimator.get_params(), tuple(predictions[chosen].tolist())
    return Predictor(estimator, Judgement(chosen, parameters, scores, baselines, judged))


def _preferred(scores: Mapping[str, Score]) -> str:
    """The best by tau; in a near tie the last contender that knows its own uncertainty."""
    bar = max(score.kendall_tau for score in scores.values()) - _NEAR_TIE
    tied = [name for name in scores if scores[name].kendall_tau >= bar]
    knowing = [name for name in tied if ESTIMATORS[name].has_posterior]
    return knowing[-1] if knowing else max(tied, key=lambda name: scores[name].kendall_tau)
