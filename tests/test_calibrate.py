from __future__ import annotations

import numpy as np
import pytest

from hardware.formats.scheme import QuantScheme
from hardware.writing.calibrate import BINS, PERCENTILE, Observer, calibrate, divergence
from hardware.writing.materialize import arrays
from tests.sample_networks import pictures, resnet


def observed(values: np.ndarray, batches: int = 7) -> Observer:
    observer = Observer()
    for part in np.array_split(values, batches):
        observer.add(part)
    return observer


def test_streamed_histogram_equals_the_histogram_of_everything() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, scale, 5000) for scale in (0.1, 1, 30)])
    values = values.astype(np.float32)
    observer = observed(values)
    everything, _ = np.histogram(values, BINS, (-observer.limit, observer.limit))
    assert observer.counts.sum() == len(values)
    assert np.abs(np.cumsum(observer.counts) - np.cumsum(everything)).max() <= 2


def test_minmax_is_exact() -> None:
    values = np.random.default_rng(0).normal(3, 1, 999).astype(np.float32)
    assert observed(values).range("minmax") == (values.min(), values.max())


def test_percentile_keeps_its_share_of_the_values() -> None:
    values = np.random.default_rng(0).standard_t(3, 200_000).astype(np.float32)
    low, high = observed(values).range("percentile")
    inside = ((values >= low) & (values <= high)).mean()
    assert PERCENTILE <= inside <= PERCENTILE + 1e-4
    assert high - low < np.ptp(values)


def test_entropy_cuts_a_lone_outlier_and_keeps_a_uniform_range() -> None:
    rng = np.random.default_rng(0)
    uniform = rng.uniform(-1, 1, 100_000).astype(np.float32)
    low, high = observed(uniform).range("entropy")
    assert (low, high) == pytest.approx((-1, 1), abs=0.05)
    normal = np.append(rng.normal(0, 1, 100_000), 60).astype(np.float32)
    _, high = observed(normal).range("entropy")
    assert high < 10


def test_divergence_is_zero_where_rounding_loses_nothing() -> None:
    counts = np.repeat(np.arange(1.0, 129), 2)
    assert divergence(counts, 256, 128) == pytest.approx(0)


def test_constant_zero_activations_have_a_range() -> None:
    assert observed(np.zeros(20, np.float32)).range("entropy") == (0, 0)


def test_no_batches_is_an_error() -> None:
    network, template = resnet()
    with pytest.raises(ValueError, match="no batches"):
        calibrate(template, arrays(network.state_dict()), QuantScheme(), [])


def test_ranges_of_values_are_those_of_all_batches() -> None:
    network, template = resnet()
    weights = arrays(network.state_dict())
    batches = [{"pixel_values": pictures(4, seed).numpy()} for seed in range(3)]
    together = calibrate(template, weights, QuantScheme(), iter(batches))
    pixels = np.concatenate([batch["pixel_values"] for batch in batches])
    assert together["pixel_values"] == (pixels.min(), pixels.max())
    alone = [calibrate(template, weights, QuantScheme(), [batch]) for batch in batches]
    for value in together:
        lows, highs = zip(*(ranges[value] for ranges in alone), strict=True)
        assert together[value] == (min(lows), max(highs))
