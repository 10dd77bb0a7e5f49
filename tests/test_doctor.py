from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from hardware import doctor
from hardware.doctor import Machine, Probe, examine_machine, measure_formats, render, variants
from hardware.latency import Latency
from hardware.providers import PROVIDERS
from hardware.target import Target, parse_target

LINEAR = Probe("linear", (1, 3, 32), (16, 32))
CONVOLUTION = Probe("convolution", (1, 4, 6, 6), (8, 4, 3, 3))


def printed(renderable: object) -> str:
    output = io.StringIO()
    Console(width=200, file=output).print(renderable)
    return output.getvalue()


def test_every_format_of_a_layer_is_measured_and_shown() -> None:
    rng = np.random.default_rng(0)
    table = measure_formats(Target(), probes=(LINEAR, CONVOLUTION), repeats=3, rng=rng)
    assert set(table["linear"]) == set(variants(LINEAR, Target()))
    assert set(table["convolution"]) == set(variants(CONVOLUTION, Target()))
    assert set(table["convolution"]) >= {"fp32", "int8 static", "int4 w4a8"}
    assert not {"int8 dynamic", "int4 matmulnbits"} & set(table["convolution"])
    assert all(row.repeats >= 1 for rows in table.values() for row in rows.values())
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


def test_measuring_needs_no_torch() -> None:
    modules = "hardware.bench, hardware.doctor, hardware.session, hardware.latency, hardware.target"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_formats_of_a_provider_are_its_precisions() -> None:
    for name, provider in PROVIDERS.items():
        measured = variants(LINEAR, parse_target(provider=name)).values()
        assert {entry for entry, _ in measured} == set(provider.formats)


def test_disturbed_figures_are_marked() -> None:
    calm, busy = Latency(2.0, 2.0, 2.0, 10), Latency(1.0, 1.0, 1.0, 10, disturbed=True)
    text = printed(render(examine_machine(), {"linear": {"fp32": calm, "int8": busy}}))
    assert "2.000 (1.0x) " in text
    assert "1.000 (2.0x)*" in text
    assert "disturbed: other work interrupted" in text
    assert "disturbed" not in printed(render(examine_machine(), {"linear": {"fp32": calm}}))
