"""Ranges of activations, observed on batches of training data in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.helper import make_tensor_value_info

from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.static_activations import Ranges, plan
from hardware.graph.template import Template
from hardware.session import Arrays, open_session, run
from hardware.target import Target
from hardware.writing.materialize import Weights, kept_nodes, materialize, static_layers

Histogram = NDArray[np.float64]

BINS = 4096
PERCENTILE = 0.9999
"""Share of the values that `percentile` keeps inside the range."""
THRESHOLDS = 64
"""Clipping points that `entropy` tries."""


def calibrate(
    template: Template,
    weights: Weights,
    scheme: QuantScheme,
    batches: Iterable[Arrays],
    target: Target | None = None,
) -> Ranges:
    """Run the FP32 sub-network on training batches and take the range of every value that any
    policy may quantize statically. One batch is held at a time, whatever their number.

    Raises ValueError when there is no batch.
    """
    nodes = kept_nodes(template, weights)
    low = static_layers(template, nodes, scheme)
    observed = sorted(plan(nodes, low).observed())
    model = materialize(template, weights, QuantPolicy({}), scheme)
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in observed if name not in inputs]
    model.graph.output.extend(
        make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in inner
    )
    session = open_session(model.SerializeToString(), target or Target())
    observers = {name: Observer() for name in observed}
    for batch in batches:
        values = dict(zip(inner, run(session, batch, inner), strict=True)) if inner else {}
        for name, observer in observers.items():
            observer.add(values[name] if name in values else batch[name])
    return Ranges(
        {name: observer.range(scheme.calibration) for name, observer in observers.items()}
    )


class Observer:
    """Histogram over a symmetric range that doubles when a value lies outside it."""

    def __init__(self) -> None:
        self.low, self.high, self.limit = np.inf, -np.inf, 0.0
        self.counts: Histogram = np.zeros(BINS)

    def add(self, values: NDArray[np.generic]) -> None:
        """Count the values of one batch."""
        flat = np.asarray(values, np.float32).ravel()
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        largest = max(abs(self.low), abs(self.high))
        if self.limit == 0:
            self.limit = largest
        while self.limit < largest:
            quarter = np.zeros(BINS // 4)
            self.counts = np.concatenate([quarter, self.counts.reshape(-1, 2).sum(1), quarter])
            self.limit *= 2
        if self.limit:
            self.counts += np.histogram(flat, BINS, (-self.limit, self.limit))[0]

    def range(self, method: str) -> tuple[float, float]:
        """Low and high end. Raises ValueError if nothing was observed."""
        if self.low > self.high:
            raise ValueError("calibration: no batches were given; give at least one")
        if method == "minmax" or self.limit == 0:
            return self.low, self.high
        low, high = self._percentile() if method == "percentile" else self._entropy()
        return max(low, self.low), min(high, self.high)

    def _percentile(self) -> tuple[float, float]:
        """Cut the same share of values from both ends, half of what `PERCENTILE` leaves each."""
        edges = np.linspace(-self.limit, self.limit, BINS + 1)
        share = np.cumsum(self.counts) / self.counts.sum()
        tail = (1 - PERCENTILE) / 2
        first = int(np.searchsorted(share, tail, side="right"))
        last = int(np.searchsorted(share, 1 - tail))
        return float(edges[first]), float(edges[last + 1])

    def _entropy(self) -> tuple[float, float]:
        """Clip magnitudes where the Kullback-Leibler divergence to the quantized histogram is
        least (Migacz 2017, 8-bit inference with TensorRT)."""
        magnitudes = self.counts[BINS // 2 :] + self.counts[: BINS // 2][::-1]
        levels = 256 if self.low >= 0 else 128
        ends = np.unique(np.linspace(levels, BINS // 2, THRESHOLDS).astype(int))
        best = min(ends, key=lambda end: divergence(magnitudes, int(end), levels))
        threshold = self.limit * int(best) / (BINS // 2)
        return -threshold, threshold


def divergence(counts: Histogram, end: int, levels: int) -> float:
    """KL divergence between magnitudes clipped at bin `end` and the same rounded to `levels`."""
    clipped = counts[:end].copy()
    clipped[-1] += counts[end:].sum()
    level = np.arange(end) * levels // end
    occupied = counts[:end] > 0
    total = np.bincount(level, counts[:end], levels)
    share = np.bincount(level, occupied, levels)
    rounded = np.where(occupied, (total / np.maximum(share, 1))[level], 0)
    if rounded.sum() == 0:
        return np.inf
    p, q = clipped / clipped.sum(), rounded / rounded.sum()
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * np.log(1 / 1e-10))
