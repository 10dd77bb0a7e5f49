"""A provider is an entry of a table: one that compiles sub-graphs takes a whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from hardware import doctor, kernel_profile
from hardware.formats.fp32 import FP32
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.kernel_profile import what_ran
from hardware.providers import PROVIDERS
from hardware.target import Target
from hardware.writing.materialize import materialize, save_model
from nas.experiment.load import load_experiment
from nas.pipeline import run
from nas.run.run_folder import RunFolder
from tests.test_pipeline import Silent, Write

COMPILER = replace(
    PROVIDERS["cpu"],
    wheel="onnxruntime-npu",
    linears=("static",),
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
def test_a_whole_run_goes_through_on_a_provider_that_compiles(
    experiment_file: Write, tmp_path: Path
) -> None:
    path = experiment_file(target={"provider": "npu"}, quantization={"linear": "static"})
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
