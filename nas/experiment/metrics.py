"""What can be known of a candidate: one table of metrics."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from supernets.metrics.metric import Quality
from supernets.metrics.own import own_quality
from supernets.metrics.registry import QUALITIES
from supernets.user_code import is_place

Direction = Literal["minimize", "maximize"]

_COUNT = {"%": 0.01, "K": 1e3, "M": 1e6, "G": 1e9}
_BYTES = {"bytes": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}


@dataclass(frozen=True)
class Metric:
    """A quantity and the direction in which it is better.

    scales: units a constraint may use, with their factor. exact: computed from the genome by the
    method of that name of `nas.cost_models.ExactCosts`, not measured. adds_up: it sums over the
    layers, so it is predicted from the structure and without warping. timed: a clock tells it, so
    that other work on the machine disturbs it. quality: how it is scored, of what says how good the
    answers are.
    """

    name: str
    direction: Direction
    unit: str = ""
    scales: Mapping[str, float] = field(default_factory=lambda: _COUNT)
    exact: bool = False
    adds_up: bool = True
    timed: bool = False
    quality: Quality | None = None

    @property
    def sign(self) -> float:
        """Factor that turns a value into a cost (smaller is better)."""
        return -1.0 if self.direction == "maximize" else 1.0


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(Metric(q.name, q.direction, adds_up=False, quality=q) for q in QUALITIES.values()),
        Metric("latency_ms", "minimize", "ms", {"us": 1e-3, "ms": 1, "s": 1e3}, timed=True),
        Metric(
            "size_bytes",
            "minimize",
            "bytes",
            {**_BYTES, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
            exact=True,
        ),
        Metric("bits_per_weight", "minimize", exact=True, adds_up=False),
        Metric("parameters", "minimize", exact=True),
        Metric("macs", "minimize", exact=True),
    )
}


def find_metric(name: str) -> Metric:
    """Look a metric up by its name. Raises ValueError for an unknown one."""
    if is_place(name):
        return Metric(name, "maximize", adds_up=False, quality=own_quality(name))
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=len(METRICS), cutoff=0)
        raise ValueError(f"{name!r} is no metric that is measured; allowed are {', '.join(near)}")
    return METRICS[name]


def find_quality(name: str) -> Quality:
    """Look up what says how good a model is. Raises ValueError for anything else."""
    if is_place(name):
        return own_quality(name)
    metric = METRICS.get(name)
    if metric is None or metric.quality is None:
        near = difflib.get_close_matches(name, QUALITIES, n=len(QUALITIES), cutoff=0)
        raise ValueError(
            f"{name!r} says nothing of how good a model is; allowed are "
            f"{', '.join(near)}, or your own as package.module:function"
        )
    return metric.quality
