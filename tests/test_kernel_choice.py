from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from hardware import doctor
from hardware.formats.format import Format
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.scheme import QuantScheme
from hardware.kernel_choice import choose_int4_kernel
from hardware.portability.kernels import lacking_kernels
from hardware.portability.runtimes import Answer, DeploymentError, Runtime
from hardware.run_watch import RunWatch
from hardware.target import Target
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from supernets.families.image_transformer import ImageSuperNetwork
from supernets.settings import SpaceSettings
from tests.sample_networks import VIT

LAYER = doctor.Probe("linear", (1, 3, 64), (32, 64))


def clock(durations: tuple[float, float]) -> itertools.accumulate[float]:
    """Two sessions measured in turn: the first takes durations[0], the second durations[1]."""
    steps = itertools.cycle([0.0, durations[0], 0.0, durations[1]])
    return itertools.accumulate(steps)


def watch_of(clock: Callable[[], float], switches: Callable[[], int] = lambda: 0) -> RunWatch:
    return RunWatch(clock, None, switches)


@pytest.mark.parametrize(
    ("durations", "expected"), [((1.0, 2.0), "w4a8"), ((2.0, 1.0), "matmulnbits")]
)
def test_the_faster_kernel_is_taken_and_remembered(
    tmp_path: Path, durations: tuple[float, float], expected: str
) -> None:
    template, weights = doctor.one_layer(LAYER, np.random.default_rng(0))
    cache = tmp_path / "kernels.json"
    ticks = clock(durations)
    inputs = {"x": np.zeros(LAYER.x, np.float32)}
    arguments = (template, weights, QuantScheme(), Target(), inputs)
    choice = choose_int4_kernel(*arguments, cache=cache, watch=watch_of(lambda: next(ticks)))
    assert choice.kernel == expected

    def forbidden() -> float:
        raise AssertionError("a remembered choice is not measured again")

    again = choose_int4_kernel(*arguments, cache=cache, watch=watch_of(forbidden))
    assert again == choice
    with pytest.raises(AssertionError, match="not measured again"):
        choose_int4_kernel(
            template, weights, QuantScheme(), Target(threads=2), inputs, cache=cache,
            watch=watch_of(forbidden),
        )  # fmt: skip


def test_a_choice_by_disturbed_latencies_is_not_remembered(tmp_path: Path) -> None:
    template, weights = doctor.one_layer(LAYER, np.random.default_rng(0))
    now, switches = itertools.count(0, 0.5), itertools.count()
    watch = watch_of(lambda: float(next(now)), lambda: next(switches))
    inputs, cache = {"x": np.zeros(LAYER.x, np.float32)}, tmp_path / "kernels.json"
    arguments = (template, weights, QuantScheme(), Target(), inputs)
    choice = choose_int4_kernel(*arguments, cache=cache, watch=watch)
    assert all(latency.disturbed for latency in choice.latencies.values())
    assert not cache.exists()


def test_cuda_has_one_int4_kernel() -> None:
    template, weights = doctor.one_layer(LAYER, np.random.default_rng(0))
    choice = choose_int4_kernel(template, weights, QuantScheme(), Target(provider="cuda"), {})
    assert choice.kernel == "matmulnbits"


@pytest.mark.parametrize("sizes", [{"resolution": (8, 16)}, {"depth": (1,)}])
def test_the_largest_network_of_the_space_is_measured(
    tmp_path: Path, sizes: dict[str, tuple[int, ...]]
) -> None:
    network = ImageSuperNetwork(VIT, num_labels=10)
    space = network.space(SpaceSettings.model_validate(sizes))
    template = template_of(network, space)
    builder = CandidateBuilder(network, space, template, QuantScheme(), ())
    chosen = builder.with_fastest_int4(tmp_path)
    (entry,) = json.loads((tmp_path / "int4_kernel.json").read_text()).values()
    assert chosen.scheme.int4_kernel == entry["kernel"]
    assert entry["latencies"].keys() == {"w4a8", "matmulnbits"}


@dataclass(frozen=True)
class Lacking(Runtime):
    """A runtime without kernels of ONNX Runtime's own."""

    def run(self, model: Path, inputs: Mapping[str, NDArray[np.generic]]) -> Answer:
        graph = onnx.load(str(model))
        if any(opset.domain for opset in graph.opset_import):
            raise DeploymentError(f"{self}: no such kernel")
        return super().run(model, inputs)


def test_a_kernel_that_a_named_runtime_lacks_is_not_chosen() -> None:
    template, weights = doctor.one_layer(LAYER, np.random.default_rng(0))
    inputs = {"x": np.zeros(LAYER.x, np.float32)}
    here, old = Runtime("onnxruntime"), Lacking("onnxruntime")
    ticks = clock((2.0, 1.0))  # MatMulNBits is the faster
    arguments = (template, weights, QuantScheme(), Target(), inputs)
    watch = watch_of(lambda: next(ticks))
    assert choose_int4_kernel(*arguments, runtimes=[here], watch=watch).kernel == "matmulnbits"
    assert choose_int4_kernel(*arguments, runtimes=[here, old], watch=watch).kernel == "w4a8"
    with pytest.raises(ValueError, match=r"matmulnbits.*export\.verify.*no such kernel"):
        choose_int4_kernel(
            template, weights, QuantScheme(), Target(provider="cuda"), inputs, runtimes=[old]
        )


@pytest.mark.parametrize(
    ("scheme", "entry", "lacks"),
    [
        (QuantScheme(linear="dynamic", int4_kernel="w4a8"), INT4, False),
        (QuantScheme(linear="qdq", int4_kernel="w4a8"), INT8, False),
        (QuantScheme(linear="static"), INT8, True),
        (QuantScheme(int4_kernel="matmulnbits"), INT4, True),
        (QuantScheme(int4_kernel="matmulnbits"), INT8, False),
    ],
    ids=str,
)
def test_kernels_of_onnx_runtime_alone_are_tried_in_the_runtimes_named(
    scheme: QuantScheme, entry: Format, lacks: bool
) -> None:
    assert not lacking_kernels(scheme, [entry], [Runtime("onnxruntime")])
    lines = lacking_kernels(scheme, [entry], [Lacking("onnxruntime")])
    assert len(lines) == lacks
    assert all(entry.name in line and "w4a8, or leave" in line for line in lines)
