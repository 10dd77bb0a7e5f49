"""Damaged files, full and read-only disks: a clear message, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.run.run_folder import RunFolder
from tests.faults.victim import EXPERIMENT, Ended, finish, known, simqnas, write_experiment


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the experiment and its finished run `out`."""
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMQNAS_CACHE", str(folder / "cache"))
        assert not finish(write_experiment(folder), folder / "out")
        yield folder


@pytest.fixture
def copy(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run to be damaged."""
    monkeypatch.setenv("SIMQNAS_CACHE", str(done / "cache"))
    return Path(shutil.copytree(done / "out", tmp_path / "out"))


def assert_one_message(result: Ended, *parts: str) -> None:
    """Exit 2, an error that names the parts, no traceback."""
    assert result.code == 2, result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_journal_torn_anywhere_in_its_last_line_loses_at_most_that_line(
    done: Path, copy: Path, cut: int
) -> None:
    journal = RunFolder(copy).journal
    before = known(done / "victim.yaml", copy)
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    (copy / "front.json").unlink()
    assert not finish(done / "victim.yaml", copy)
    assert known(done / "victim.yaml", copy) == before


def test_a_missing_or_cut_model_is_exported_again(done: Path, copy: Path) -> None:
    first, second = sorted((copy / "models").glob("*/model.onnx"))[:2]
    contents = first.read_bytes(), second.read_bytes()
    first.unlink()
    second.write_bytes(contents[1][:100])
    assert not finish(done / "victim.yaml", copy)
    assert (first.read_bytes(), second.read_bytes()) == contents


def test_a_damaged_journal_line_is_named(done: Path, copy: Path) -> None:
    journal = RunFolder(copy).journal
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], b"garbage\n", *lines[4:]]))
    assert_one_message(simqnas("show", copy), str(journal), "damaged")


@pytest.mark.slow
def test_corrupted_weights_are_named_with_the_way_out(done: Path, copy: Path) -> None:
    weights = copy / "supernet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    run = ["run", done / "victim.yaml", "--out", copy]
    assert_one_message(simqnas(*run), "supernet", "damaged", "delete")
    before = known(done / "victim.yaml", copy)
    weights.unlink()
    (copy / "front.json").unlink()
    assert simqnas(*run).code == 0
    assert known(done / "victim.yaml", copy) == before


def test_a_full_disk_is_told_and_the_run_continues_afterwards(
    done: Path, copy: Path, tmp_path: Path
) -> None:
    """A limit on file sizes fails an append just as a full disk does."""
    file, journal = done / "victim.yaml", RunFolder(copy).journal
    before = known(file, copy)
    (copy / "front.json").unlink()
    longer = ["run", file, "--out", copy, "--set", "search.evaluations=6"]
    result = simqnas(*longer, limit=journal.stat().st_size + 100)
    assert_one_message(result, "File too large")
    assert known(file, copy).items() >= before.items()
    more = {**EXPERIMENT["search"], "evaluations": 6}  # type: ignore[dict-item] # a dict
    assert not finish(write_experiment(tmp_path, search=more), copy)
    assert len(known(file, copy)) == len(before) + 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; see the mounted one")
def test_a_read_only_folder_is_told(done: Path, copy: Path) -> None:
    copy.chmod(0o500)
    assert_one_message(simqnas("run", done / "victim.yaml", "--out", copy), str(copy))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small or read-only disk")
def test_small_and_read_only_disks_are_told(done: Path, copy: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine allows no mounts")
    try:
        run = ["run", done / "victim.yaml", "--out", disk / "out"]
        assert_one_message(simqnas(*run), "bytes", "free")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert_one_message(simqnas(*run), str(disk))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
