from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hardware import doctor
from hardware.bench import bench
from hardware.bench import render as render_bench
from hardware.doctor import Machine, Probe, examine_machine, measure_formats, render
from hardware.formats.precision import QuantPolicy, QuantScheme
from hardware.graph.graph_writer import GraphWriter
from hardware.target import Target, TargetError, parse_target
from hardware.writing.materialize import materialize, save_model

LINEAR = Probe("linear", (1, 3, 32), (16, 32))
CONVOLUTION = Probe("convolution", (1, 4, 6, 6), (8, 4, 3, 3))


def printed(renderable: object) -> str:
    output = io.StringIO()
    Console(width=200, file=output).print(renderable)
    return output.getvalue()


def test_every_format_of_a_layer_is_measured_and_shown() -> None:
    rng = np.random.default_rng(0)
    table = measure_formats(Target(), probes=(LINEAR, CONVOLUTION), repeats=3, rng=rng)
    assert set(table["linear"]) == set(doctor.FORMATS["cpu"])
    assert set(table["convolution"]) == {"fp32", "int8 static", "int4 w4a8"}
    assert all(row.repeats == 1 for rows in table.values() for row in rows.values())
    text = printed(render(examine_machine(), table))
    assert "CPUExecutionProvider" in text
    assert "(1.0x)" in text


@pytest.mark.parametrize(
    ("flags", "packages", "remark"),
    [
        (("avx2",), {}, "saturate"),
        (("avx512_vnni",), {"onnxruntime": "1", "onnxruntime-gpu": "1"}, "overwrite each other"),
    ],
)
def test_remarks_say_what_the_machine_lacks(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], packages: dict[str, str], remark: str
) -> None:
    monkeypatch.setattr(doctor, "cpu_flags", lambda: flags)
    monkeypatch.setattr(doctor, "_installed", lambda names: packages.items())
    assert any(remark in text for text in examine_machine().remarks)
    assert isinstance(examine_machine(), Machine)


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    template, weights = doctor.one_layer(LINEAR, np.random.default_rng(0))
    model = materialize(template, weights, QuantPolicy({}), QuantScheme())
    save_model(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_model_against_itself_is_not_ranked(model_path: Path) -> None:
    rng = np.random.default_rng(0)
    now = iter(np.arange(1000.0))
    result = bench(
        model_path, Target(), against=model_path, repeats=20, rng=rng, clock=lambda: next(now)
    )
    assert result.ratio is not None
    assert result.ratio.value == 1
    assert result.model.size_bytes == model_path.stat().st_size
    assert "cannot be told apart" in printed(render_bench(result))


def test_what_cannot_be_measured_is_refused_with_its_path(tmp_path: Path, model_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"absent\.onnx: no such file"):
        bench(tmp_path / "absent.onnx", Target(), rng=rng)
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match=r"text\.onnx: ONNX Runtime cannot load it"):
        bench(tmp_path / "text.onnx", Target(), rng=rng)
    with pytest.raises(TargetError, match="onnxruntime-gpu"):
        bench(model_path, Target(provider="cuda"), rng=rng)


def test_an_axis_that_no_target_names_is_refused(tmp_path: Path) -> None:
    writer = GraphWriter()
    writer.node("Relu", ["x"], ["y"])
    for name, values in (("x", writer.graph.input), ("y", writer.graph.output)):
        value = values.add(name=name)
        value.type.tensor_type.elem_type = 1
        value.type.tensor_type.shape.dim.add(dim_param="mystery")
    writer.model.ir_version = 10
    writer.model.opset_import.add(domain="", version=23)
    save_model(writer.model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"input x has shape \['mystery'\]"):
        bench(tmp_path / "model.onnx", Target(), rng=np.random.default_rng(0))


def test_measuring_needs_no_torch() -> None:
    modules = "hardware.bench, hardware.doctor, hardware.session, hardware.latency, hardware.target"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_formats_of_a_provider_are_its_precisions() -> None:
    for provider, formats in doctor.FORMATS.items():
        precisions = {precision for precision, _ in formats.values()}
        assert precisions == set(parse_target(provider).precisions)
