"""The real process, really killed: nothing is lost, nothing is measured twice, same result."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from nas.ledger.storage import open_storage
from nas.run.run_folder import RunFolder
from tests.faults.victim import finish, known, start, write_experiment

Outcome = tuple[list[tuple[int, str, float, float]], list[tuple[str, float, int]]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the experiment; all runs in it share remembered latencies."""
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMQNAS_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(autouse=True)
def shared_cache(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMQNAS_CACHE", str(base / "cache"))


@pytest.fixture(scope="module")
def uninterrupted(base: Path) -> Outcome:
    """How the run ends when nobody disturbs it."""
    assert not finish(write_experiment(base), base / "calm")
    return outcome(base / "victim.yaml", base / "calm")


def outcome(file: Path, out: Path) -> Outcome:
    """Candidates, accuracies and sizes of ledger and front; latencies of the front are new ones."""
    ledger = [
        (e.round, key, e.metrics["accuracy"], e.metrics["size_bytes"])
        for key, e in known(file, out).items()
    ]
    models = json.loads((out / "front.json").read_text())["models"]
    front = [(m["key"], m["test_score"], m["size_bytes"]) for m in models]
    return ledger, sorted(front)


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_been(
    base: Path, uninterrupted: Outcome
) -> None:
    """Every attempt gets a little further than the one before, so that all stages are hit."""
    file, out = base / "victim.yaml", base / "killed"
    kills, kill_at, before = 0, 3, known(file, out)
    while finish(file, out, kill_at):
        kills, kill_at = kills + 1, kill_at + 1 + kill_at // 5
        now = known(file, out)
        assert {key: now.get(key) for key in before} == before
        before = now
    assert kills >= 12
    assert outcome(file, out) == uninterrupted


def test_ctrl_c_finishes_the_evaluation_and_writes_a_report(
    base: Path, uninterrupted: Outcome
) -> None:
    file, out = base / "victim.yaml", base / "stopped"
    process = start(file, out)
    while process.is_alive() and len(known(file, out)) < 3:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 1, "Stopped was raised"
    assert "not finished" in (out / "report.md").read_text()
    storage = open_storage(None, RunFolder(out).journal)
    trials = optuna.load_study(study_name="victim", storage=storage).trials
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    assert not finish(file, out)
    assert outcome(file, out) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [*range(1, 40, 3), *range(41, 75, 2)])
def test_one_kill_anywhere_changes_nothing(
    base: Path, uninterrupted: Outcome, kill_at: int
) -> None:
    file, out = base / "victim.yaml", base / f"once-{kill_at}"
    finish(file, out, kill_at)
    before = known(file, out)
    assert not finish(file, out)
    now = known(file, out)
    assert {key: now.get(key) for key in before} == before
    assert outcome(file, out) == uninterrupted
