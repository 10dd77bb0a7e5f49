"""A provider is an entry of a table: one that compiles sub-graphs takes a whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from hardware import doctor, kernel_profile
from hardware import target as target_module
from hardware.formats.fp16 import FP16
from hardware.formats.fp32 import FP32
from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.static_activations import Ranges
from hardware.kernel_profile import what_ran
from hardware.latency import measure
from hardware.providers import PROVIDERS
from hardware.session import SessionError, open_session, predict, provider_options
from hardware.target import Target, TargetError, plugin_device
from hardware.writing.materialize import materialize, save_model
from nas.experiment.load import load_experiment
from nas.pipeline import run
from nas.run.run_folder import RunFolder
from tests.conftest import LITTLE
from tests.test_pipeline import Silent, Write

COMPILER = replace(
    PROVIDERS["cpu"],
    wheel="onnxruntime-npu",
    linears=("qdq", "static"),
    int4_kernels=("w4a8",),
    names_kernels=False,
)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """`npu`: the processor, refusing what ONNX Runtime refuses where sub-graphs are compiled."""
    real = onnxruntime.InferenceSession

    def refusing(model: Any, options: Any, *arguments: Any, **named: Any) -> Any:
        if options is not None and options.optimized_model_filepath:
            raise Fail("Unable to serialize model as it contains compiled nodes.")
        return real(model, options, *arguments, **named)

    monkeypatch.setitem(PROVIDERS, "npu", COMPILER)
    monkeypatch.setattr(onnxruntime, "InferenceSession", refusing)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("linear", ["auto", "static"])
def test_a_whole_run_goes_through_on_a_provider_that_compiles(
    experiment_file: Write, tmp_path: Path, linear: str
) -> None:
    path = experiment_file(**LITTLE, target={"provider": "npu"}, quantization={"linear": linear})
    folder = RunFolder(tmp_path / "out")
    front = run(load_experiment(path), folder, Silent())
    assert front.models
    assert {model.name for model in front.references} == {"fp32", "int8"}
    for model in front.models:
        assert json.loads((folder.model(model.name) / "policy.json").read_text())["fallbacks"] == []
    assert front.conditions["target"]["provider"] == "npu"


@pytest.mark.usefixtures("compiler")
def test_its_kernels_are_told_without_layers_and_others_providers_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = doctor.Probe("linear", (1, 3, 32), (16, 32))
    template, weights = doctor.one_layer(probe, np.random.default_rng(0))
    model = materialize(template, weights, QuantPolicy({"layer": FP32}), QuantScheme())
    save_model(model, tmp_path / "model.onnx")
    x = {"x": np.zeros(probe.x, np.float32)}
    ran = what_ran(tmp_path / "model.onnx", x, Target(provider="npu"))
    assert ran.kernels
    assert not ran.fallbacks
    assert set(ran.nodes) == {"CPUExecutionProvider"}
    assert sum(ran.nodes.values()) >= 2
    events = kernel_profile._profile
    elsewhere = {"provider": "OtherExecutionProvider"}

    def moved(*arguments: Any, **named: Any) -> Any:
        return [
            {**event, "args": {**event["args"], **elsewhere}}
            for event in cast("list[dict[str, Any]]", events(*arguments, **named))
        ]

    monkeypatch.setattr(kernel_profile, "_profile", moved)
    with pytest.raises(kernel_profile.FallbackError, match="ran on OtherExecutionProvider"):
        what_ran(tmp_path / "model.onnx", x, Target(provider="npu"))


def test_tensorrt_is_asked_for_what_the_graph_holds(tmp_path: Path) -> None:
    """Its engines round nothing that it was not allowed to."""
    probe = doctor.Probe("linear", (1, 3, 32), (16, 32))
    template, weights = doctor.one_layer(probe, np.random.default_rng(0))
    target, asked = Target(provider="tensorrt"), {}
    for entry in (FP32, FP16, INT8):
        policy, ranges = QuantPolicy({"layer": entry}), Ranges({"x": (-1, 1)})
        model = materialize(template, weights, policy, QuantScheme(linear="qdq"), ranges)
        options = provider_options(model.SerializeToString(), target)
        assert options["trt_engine_cache_path"].endswith("engines")
        asked[entry] = {name for name in options if name.endswith(("int8_enable", "fp16_enable"))}
    assert asked == {FP32: set(), FP16: {"trt_fp16_enable"}, INT8: {"trt_int8_enable"}}


def test_openvino_is_asked_for_fp32() -> None:
    """Left alone it computes in bfloat16 where the processor can."""
    options = provider_options(b"", Target(provider="openvino", threads=2))
    assert json.loads(options["load_config"]) == {"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}
    assert options["num_of_threads"] == "2"


def test_what_onnx_runtime_raises_is_one_line_of_one_kind() -> None:
    with pytest.raises(SessionError, match="cannot load it for cpu: ") as caught:
        open_session(b"no model", Target())
    assert "\n" not in str(caught.value)
    probe = doctor.Probe("linear", (1, 3, 32), (16, 32))
    template, weights = doctor.one_layer(probe, np.random.default_rng(0))
    model = materialize(template, weights, QuantPolicy({"layer": FP32}), QuantScheme())
    session = open_session(model.SerializeToString(), Target())
    wrong = {"x": np.zeros((1, 3, 31), np.float32)}
    with pytest.raises(SessionError, match="cannot run the model: ") as caught:
        predict(session, [wrong])
    assert "\n" not in str(caught.value)
    with pytest.raises(SessionError, match="cannot run the model: "):
        measure({"model": session}, {"model": wrong}, repeats=3)


@pytest.mark.skipif(find_spec("onnxruntime_ep_openvino") is not None, reason="it is installed")
def test_a_missing_plugin_is_named() -> None:
    with pytest.raises(TargetError, match="install the wheel onnxruntime-ep-openvino"):
        open_session(b"", Target(provider="openvino"))


def test_a_plugin_without_a_device_and_a_broken_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_of_another_machine.py").write_text("")
    (tmp_path / "broken_plugin.py").write_text("def get_library_path(): return '/no/such.so'")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(target_module, "_register", lambda name, plugin: None)
    with pytest.raises(TargetError, match="offers no device on this machine"):
        plugin_device("AbsentExecutionProvider", "plugin_of_another_machine")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TargetError, match="broken_plugin does not load: ") as caught:
        plugin_device("BrokenExecutionProvider", "broken_plugin")
    assert "\n" not in str(caught.value)


def test_what_was_not_tried_says_so() -> None:
    description = Target.model_json_schema()["properties"]["provider"]["description"]
    for name, entry in PROVIDERS.items():
        assert (f"{name} (not tried on hardware)" in description) == (not entry.tried)
