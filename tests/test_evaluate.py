"""Evaluation: latencies relative to the baseline, remembered; texts served without padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

from hardware.formats.fp32 import FP32
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.scheme import QuantScheme
from hardware.latency import Latency
from hardware.run_watch import RunWatch
from hardware.target import Target
from nas.evaluation.built_candidate import graph_digest
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.fake_quant_score import FakeQuantScore
from nas.evaluation.latency_cache import LatencyCache
from nas.evaluation.latency_meter import LocalLatency
from nas.evaluation.score_meter import RuntimeScore, _served
from supernets.data.builtin import digits
from supernets.data.data import TaskData, calibration_batches
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.metrics.classes import ACCURACY
from supernets.settings import DataSettings, SpaceSettings
from tests import sample_networks


class Clock:
    """Time that passes by the same amount from each look to the next."""

    def __init__(self) -> None:
        self.now, self.tick_s = 0.0, 0.001

    def __call__(self) -> float:
        self.now += self.tick_s
        return self.now


@pytest.fixture(scope="module")
def builder() -> CandidateBuilder:
    network, template = sample_networks.vit()
    network.activate({})
    space = network.space(SpaceSettings(depth=(1, 3), num_heads=(2, 4), hidden_dim=(48, 96)))
    return CandidateBuilder(network, space, template, QuantScheme(), [])


def evaluator_of(
    builder: CandidateBuilder, data: TaskData, folder: Path, clock: Clock | None = None
) -> Evaluator:
    """What evaluates on this machine, beside the largest network in FP32."""
    baseline = builder.uniform(builder.space.largest(), FP32)
    watch = None if clock is None else RunWatch(clock, None, lambda: 0)
    latency = LocalLatency(builder, baseline, LatencyCache(folder), watch)
    return Evaluator(builder, RuntimeScore(builder, data.validation), latency, [ACCURACY])


@pytest.fixture(scope="module")
def data() -> TaskData:
    preprocessor = ImagePreprocessor.plain(sample_networks.VIT.image_size, (0.3,), (0.4,))
    return digits.load(preprocessor, DataSettings(name="digits", augment=False))


def test_what_was_measured_once_is_remembered(tmp_path: Path) -> None:
    cache, measured = LatencyCache(tmp_path), Latency(1.0, 0.9, 1.1, 30)
    assert cache.get({"key": 1}, lambda: measured) == measured
    assert cache.get({"key": 1}, lambda: pytest.fail("measured again")) == measured
    other = Latency(2.0, 1.9, 2.1, 30)
    assert cache.get({"key": 2}, lambda: other) == other


def test_a_disturbed_latency_is_not_remembered(tmp_path: Path) -> None:
    cache, disturbed = LatencyCache(tmp_path), Latency(9.0, 8.0, 10.0, 30, disturbed=True)
    assert cache.get({"key": 1}, lambda: disturbed) == disturbed
    calm = Latency(1.0, 0.9, 1.1, 30)
    assert cache.get({"key": 1}, lambda: calm) == calm
    assert cache.get({"key": 1}, lambda: disturbed) == calm


def test_a_slow_phase_of_the_machine_cancels(
    builder: CandidateBuilder, data: TaskData, tmp_path: Path
) -> None:
    """Whatever the pace, a candidate's latency is its ratio to the baseline's, in its time."""
    baseline = builder.uniform(builder.space.largest(), FP32)
    candidate = builder.uniform(builder.space.smallest(), INT8)
    clock = Clock()
    evaluator = evaluator_of(builder, data, tmp_path, clock)
    metrics, _ = evaluator(baseline)
    assert metrics["latency_ms"] == pytest.approx(1.0)
    clock.tick_s *= 7
    metrics, _ = evaluator(candidate)
    assert metrics["latency_ms"] == pytest.approx(1.0)


def test_latency_taken_in_another_way_is_not_reused(
    builder: CandidateBuilder, data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = builder.uniform(builder.space.largest(), FP32)
    clock = Clock()
    evaluator = evaluator_of(builder, data, tmp_path, clock)
    evaluator(baseline)
    clock.tick_s *= 7
    assert evaluator(baseline).metrics["latency_ms"] == pytest.approx(1.0)
    monkeypatch.setattr("nas.evaluation.latency_meter.METHOD", "another")
    assert evaluator(baseline).metrics["latency_ms"] == pytest.approx(7.0)


def test_latency_is_remembered_by_the_graph_and_not_by_its_weights(
    builder: CandidateBuilder,
) -> None:
    """Other weights make no other latency; another precision, size or way of writing does."""
    space = builder.space
    small = builder.uniform(space.smallest(), INT8)
    large = builder.uniform(space.largest(), INT8)
    model = builder.model(small)
    digest = graph_digest(model)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8:
            tensor.raw_data = bytes(len(tensor.raw_data))
    assert graph_digest(model) == digest
    model.graph.node[0].name += "/changed"
    others = (large, small.with_precision(INT4))
    found = {digest, graph_digest(model), *(graph_digest(builder.model(c)) for c in others)}
    assert len(found) == 4


def test_metrics_are_those_of_the_shipped_model(
    builder: CandidateBuilder, data: TaskData, tmp_path: Path
) -> None:
    candidate = builder.uniform(builder.space.largest(), INT4)
    metrics, details = evaluator_of(builder, data, tmp_path)(candidate)
    assert metrics["size_bytes"] == len(builder.model(candidate).SerializeToString())
    assert metrics["bits_per_weight"] == 8 * metrics["size_bytes"] / metrics["parameters"]
    network = builder.network(candidate)
    assert metrics["parameters"] == sum(p.numel() for p in network.parameters())
    assert details.target == Target().describe()
    assert details.latency is not None
    assert details.latency.repeats > 0


def test_a_text_is_served_without_the_padding_of_its_neighbours() -> None:
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    ids = np.arange(12).reshape(3, 4)
    served = _served({"input_ids": ids, "attention_mask": mask}, slice(1, 3))
    assert served["input_ids"].tolist() == [[4, 5], [8, 9]]
    assert served["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_calibration_batches_are_of_the_training_split(data: TaskData) -> None:
    (batch,) = calibration_batches(data.train, samples=32, batch_size=32)
    rows = {image.tobytes() for image in batch.inputs["pixel_values"].numpy()}
    training = {
        image.tobytes()
        for part in data.train.batches(100)
        for image in part.inputs["pixel_values"].numpy()
    }
    assert rows <= training


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_fast_evaluator_sees_the_accuracy_of_the_exported_model(
    builder: CandidateBuilder, data: TaskData, batch_size: int
) -> None:
    """397 validation images, served one by one and in sevens (the last batch has five)."""
    served = replace(builder, target=Target(batch_size=batch_size))
    exact, fast = (meter(served, data.validation) for meter in (RuntimeScore, FakeQuantScore))
    rng = np.random.default_rng(0)
    for genome in builder.space.sample(3, rng):
        built = served.build(Candidate.from_genome(builder.space, genome))
        allowed = 2 / len(data.validation)
        ours, theirs = (meter.predictions(built).score(ACCURACY) for meter in (exact, fast))
        assert ours == pytest.approx(theirs, abs=allowed)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_answers_do_not_depend_on_how_many_are_asked_for_at_the_same_time(
    builder: CandidateBuilder, data: TaskData, batch_size: int
) -> None:
    """To the bit, and in their order: 5 shares of 64 samples, and of what is left."""
    few = data.validation.part(torch.arange(150))
    served = replace(builder, target=Target(batch_size=batch_size, threads=2))
    built = served.build(served.uniform(builder.space.largest(), INT8))
    alone, together = (RuntimeScore(served, few, n).predictions(built) for n in (1, 10))
    for one, other in zip(alone.rows, together.rows, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(alone) == 150


def test_a_candidate_does_not_depend_on_what_was_built_before(builder: CandidateBuilder) -> None:
    """All candidates share one super-network, which knows the last one's sizes."""
    space = builder.space
    small = builder.uniform(space.smallest(), INT8)
    large = builder.uniform(space.largest(), INT4)
    content = builder.build(small).content
    builder.build(large)
    again = builder.build(small)
    assert again.content == content
    for name, array in builder.example(small).items():
        np.testing.assert_array_equal(again.example[name], array)
