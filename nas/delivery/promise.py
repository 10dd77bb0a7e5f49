"""What is promised of a model beside the reference in low precision, and for which need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from scipy.special import ndtr

from nas.experiment.objectives import Cost
from supernets.metrics.metric import Quality
from supernets.metrics.paired import Z95, Comparison

Need = Literal["no_loss", "within_1_point", "fastest_at_2_points", "smallest_at_2_points"]
NEEDS: tuple[Need, ...] = get_args(Need)
ALPHA = 0.05
"""Chance of the paired test below which a model is distinguishably worse."""


def in_words(need: Need) -> str:
    """The need as people read it."""
    return need.replace("_", " ")


def cost_of(need: Need, usual: Cost) -> Cost:
    """What the model for a need has least of. usual: where the need does not say."""
    named: dict[Need, Cost] = {
        "fastest_at_2_points": "latency_ms",
        "smallest_at_2_points": "size_bytes",
    }
    return named.get(need, usual)


def point(metric: Quality, reference: float) -> float:
    """A point of a metric: a hundredth, of the reference's value where less is better."""
    return 0.01 * metric.scale(reference)


def allowed_drops(metric: Quality, reference: float, no_loss: float | None) -> dict[Need, float]:
    """Need -> how much worse than the reference a model may be.

    no_loss: that of this need; None: half a point.
    """
    one = point(metric, reference)
    least = one / 2 if no_loss is None else no_loss
    return dict(zip(NEEDS, (least, one, 2 * one, 2 * one), strict=True))


@dataclass(frozen=True)
class Promise:
    """How a model compares with the reference in low precision; differences are in the metric.

    difference, low, high: on the samples it was judged on, with the interval of 95 % for samples
    without number. p: the chance of this or worse for a model that is not worse, by a paired test.
    samples: that it was judged on. kept_back: whether nothing was chosen by these.
    chosen_by: the difference on the samples that the search chose by. expected, expected_low,
    expected_high: the difference on test, and the interval of 95 % for it.
    """

    difference: float
    low: float
    high: float
    p: float
    samples: int
    kept_back: bool
    chosen_by: float
    expected: float
    expected_low: float
    expected_high: float

    @classmethod
    def of(
        cls,
        seen: Comparison,
        kept: Comparison | None,
        test_samples: int,
    ) -> Self:
        """Judge by what was kept back; where that is nothing, by what the search chose by."""
        judged = seen if kept is None else kept
        (low, high), (worst, best) = judged.interval, judged.expected_on(test_samples)
        return cls(
            judged.difference, low, high, judged.p, judged.samples, kept is not None,
            seen.difference, judged.difference, worst, best,
        )  # fmt: skip

    def keeps(self, metric: Quality, drop: float, tested: float) -> bool:
        """Whether the model is at most `drop` worse, and not distinguishably worse than `tested`.

        Two looks: the first at the samples that were chosen by, the second at those that it is
        judged on. The second only refuses: picking by it what looks best would be luck once more.
        """
        if tested == 0.0:
            chance = self.p
        else:
            error = (self.high - self.low) / (2 * Z95)
            missed = metric.worse_by(self.difference, 0.0) - tested
            # Without any spread nothing is left to chance.
            chance = float(ndtr(-missed / error)) if error > 0 else float(missed <= 0)
        return metric.worse_by(self.chosen_by, 0.0) <= drop and chance >= ALPHA


@dataclass(frozen=True)
class Offer:
    """The model for one need, and what is promised of it."""

    need: Need
    model: str
    promise: Promise

    def to_json(self) -> dict[str, Any]:
        """Plain values in one table, read back by `from_json`."""
        return {"need": self.need, "model": self.model, **asdict(self.promise)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        promise = Promise(**{name: data[name] for name in Promise.__dataclass_fields__})
        return cls(data["need"], data["model"], promise)
