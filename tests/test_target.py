from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

import hardware.processors
from hardware.formats.int8 import INT8
from hardware.processors import PROCESSORS_VARIABLE, limit_threads, memory, processors, quota
from hardware.providers import PROVIDERS
from hardware.target import Target, TargetError, cpu_flags, cpu_name, parse_target


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of its own group or of one around it, whichever is less, in whole processors."""
    group, groups = tmp_path / "cgroup", tmp_path / "groups"
    inner = groups / "kubepods" / "pod1"
    inner.mkdir(parents=True)
    monkeypatch.setattr(hardware.processors, "GROUP", group)
    monkeypatch.setattr(hardware.processors, "GROUPS", groups)
    monkeypatch.setattr(hardware.processors, "_given", lambda: 8)
    for name in ("OMP_NUM_THREADS", PROCESSORS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert (quota(), processors()) == (math.inf, 8)
    group.write_text("1:cpu:/v1\n0::/kubepods/pod1\n")
    (inner / "cpu.max").write_text("max 100000\n")
    limit_threads()
    assert "OMP_NUM_THREADS" not in os.environ
    (inner.parent / "cpu.max").write_text("250000 100000\n")
    assert (quota(), processors()) == (2.5, 2)
    (inner / "cpu.max").write_text("50000 100000\n")
    assert (quota(), processors()) == (0.5, 1)
    limit_threads()
    assert os.environ.pop("OMP_NUM_THREADS") == "1"
    (inner / "cpu.max").unlink()
    (inner / "cpu.max").mkdir()  # as little to be read as what is forbidden
    assert (quota(), processors()) == (2.5, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    machine = memory()
    (inner / "memory.max").write_text("max\n")
    assert memory() == machine > 2**20
    (inner.parent / "memory.max").write_text(f"{2**20}\n")
    assert memory() == 2**20


def test_a_missing_provider_names_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(TargetError, match="onnxruntime-gpu"):
        _ = Target(provider="cuda").execution_provider
    assert Target().execution_provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("field", "value"), [("threads", 0), ("batch_size", -1), ("provider", "npu")]
)
def test_impossible_targets_are_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(TargetError, match=rf"target\.{field}.*{value}"):
        parse_target(**{field: value})


def test_int8_is_no_precision_of_cuda() -> None:
    assert INT8 not in PROVIDERS["cuda"].formats
    assert INT8 in PROVIDERS["tensorrt"].formats


def test_flags_are_read_from_the_kernel(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: Example 9000\nflags\t\t: fpu avx2 avx512_vnni\n")
    assert cpu_flags(info) == ("avx2", "avx512_vnni")
    assert cpu_name(info) == "Example 9000"
    assert cpu_flags(tmp_path / "absent") == ()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not say")
def test_processors_are_those_that_nobody_asks_to_leave_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    for name in ("OMP_NUM_THREADS", PROCESSORS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware.processors, "GROUPS", Path("/nowhere"))
    assert processors() == 6
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert processors() == 4
    monkeypatch.setenv(PROCESSORS_VARIABLE, "3")
    assert processors() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0,1")
    monkeypatch.setenv(PROCESSORS_VARIABLE, "64")
    assert processors() == 6
