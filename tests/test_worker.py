"""Workers: what a small board needs, and whole runs that leave the work to others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cli import main
from hardware.target import Target
from nas.experiment.database_url import masked, without_password
from nas.experiment.load import load_experiment
from nas.ledger.artifact_store import ArtifactStore
from nas.ledger.ledger import Ledger
from nas.ledger.storage import StorageError, open_storage
from nas.ledger.study import read_evaluations
from nas.pipeline import run
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import at_storage
from nas.workers.remote_latency import LatencyQueue
from supernets.space.space import SearchSpace
from tests.faults import mariadb, postgres, s3
from tests.faults.victim import EXPERIMENT, Still, write_experiment

ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "datasets", "sklearn", "pymoo"):
    sys.modules[name] = None
sys.argv[0] = "simqnas"
import cli
cli.main()
"""


def tiny_model() -> bytes:
    """A graph that adds one to its input."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def start(*arguments: object, code: str | None = None) -> subprocess.Popen[str]:
    launcher = ["-m", "cli"] if code is None else ["-c", code]
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.open(str(tmp_path / "artifacts"), "victim")


def test_artifacts_arrive_as_they_were_sent(artifacts: ArtifactStore, tmp_path: Path) -> None:
    name = artifacts.put(b"content")
    assert artifacts.get(name) == b"content"
    (tmp_path / "artifacts" / name).write_bytes(b"other")
    with pytest.raises(StorageError, match="changed on its way"):
        artifacts.get(name)
    with pytest.raises(ValueError, match="artifact"):
        artifacts.get("../outside")


def test_a_board_without_torch_measures_latency(tmp_path: Path, artifacts: ArtifactStore) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    place = str(tmp_path / "artifacts")
    file = write_experiment(tmp_path, storage=url, artifacts=place)
    storage = open_storage(url, tmp_path / "unused")
    experiment = load_experiment(file)
    objectives = experiment.parsed_objectives()
    ledger = Ledger.open(storage, experiment.name, SearchSpace(()), objectives)
    queue = LatencyQueue.open(storage, experiment.name, artifacts)
    inputs = {"tiny": {"x": np.zeros(2, np.float32)}}
    queue.submit("good", {"tiny": tiny_model()}, inputs, Target(), 7)
    queue.submit("bad", {"tiny": b"no model"}, inputs, Target(), 7)
    board = start("worker", file, "--measure", "latency", code=WITHOUT_TORCH)
    try:
        rounds, device = queue.rounds("good")
        assert len(rounds.seconds["tiny"]) >= 4
        assert (rounds.seconds["tiny"] > 0).all()
        assert rounds.latency("tiny").disturbed == (
            (~rounds.interrupted["tiny"]).sum() < rounds.counted
        )
        assert device == Target().describe()
        with pytest.raises(ValueError, match="latency on the other device"):
            queue.rounds("bad")
        ledger.note(finished=True)
        assert board.wait(60) == 0
    finally:
        board.kill()


def test_workers_without_a_database_are_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["simqnas", "worker", str(write_experiment(tmp_path))])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "--workers N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "shown", "kept"),
    [
        (
            "postgresql://me:secret@host/db",
            "postgresql://me:***@host/db",
            "postgresql://me@host/db",
        ),
        ("mysql+pymysql://u:p:q@h/d", "mysql+pymysql://u:***@h/d", "mysql+pymysql://u@h/d"),
        ("postgresql://me:se@cr@et@host/db", "postgresql://me:***@host/db", None),
        ("postgresql://me@host:5432/db", None, None),
        ("sqlite:////tmp/a.db", None, None),
    ],
)
def test_passwords_are_neither_shown_nor_kept(
    url: str, shown: str | None, kept: str | None
) -> None:
    assert masked(url) == (shown or url)
    assert without_password(url) == (kept or (shown or url).replace(":***", ""))


def test_a_bad_database_url_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="storage") as caught:
        load_experiment(write_experiment(tmp_path, storage="oracle://me:secret@host/db"))
    assert "secret" not in str(caught.value)


def test_runs_share_a_store_and_remove_their_own(tmp_path: Path, artifacts: ArtifactStore) -> None:
    other = ArtifactStore.open(str(tmp_path / "artifacts"), "other")
    mine, theirs = artifacts.put(b"same"), other.put(b"same")
    artifacts.delete([mine])
    assert other.get(theirs) == b"same"
    with pytest.raises(StorageError, match="not found"):
        artifacts.get(mine)
    other.delete([theirs, theirs])
    assert not list((tmp_path / "artifacts").iterdir())


def test_a_store_that_cannot_be_used_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="must name a bucket"):
        ArtifactStore.open("s3://bucket/folder", "run")
    url = f"sqlite:///{tmp_path}/ledger.db"
    file = write_experiment(tmp_path, storage=url, artifacts="s3://bucket/folder")
    with pytest.raises(StorageError, match="must name a bucket"):
        run(load_experiment(file), RunFolder(tmp_path / "out"), Still())
    assert not (tmp_path / "out").exists()


def test_a_missing_database_driver_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    file = write_experiment(tmp_path, storage="mysql://me:hidden@127.0.0.1:1/database")
    with pytest.raises(StorageError, match=r"pymysql.*simqnas\[mysql\]") as caught:
        run(load_experiment(file), RunFolder(tmp_path / "out"), Still())
    assert "hidden" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Meeting:
    """Where driver and workers meet; `left` lists the files on their way."""

    storage: str
    artifacts: str
    left: Callable[[], list[str]]


@pytest.fixture
def meeting(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Meeting]:
    url, folder = f"sqlite:///{tmp_path}/ledger.db", tmp_path / "artifacts"
    left = partial(os.listdir, folder)
    if request.param == "s3":
        with s3.bucket(monkeypatch) as name:
            yield Meeting(url, f"s3://{name}", partial(s3.keys, name))
    elif request.param == "mysql":
        with mariadb.server() as database:
            yield Meeting(database, str(folder), left)
    else:
        yield Meeting(url, str(folder), left)


@pytest.mark.slow
@pytest.mark.parametrize("meeting", ["folder", "s3", "mysql"], indirect=True)
def test_a_run_is_done_by_workers_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meeting: Meeting
) -> None:
    """The driver proposes, a worker with only the file and the database measures accuracy, a board
    latency; candidates and accuracies are those of a run alone. The password is written nowhere."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    search = {**EXPERIMENT["search"], "evaluations": 20, "round_size": 10}  # type: ignore[dict-item] # a dict
    files = [write_experiment(f, artifacts=meeting.artifacts, search=search) for f in (here, there)]
    monkeypatch.setenv("SIMQNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SIMQNAS_STORAGE", meeting.storage)
    driver = start(
        "run", files[0], "--out", here / "out", "--workers", "remote", "--measure", "accuracy"
    )
    workers = [
        start("worker", files[1]),
        start("worker", files[1]),
        start("worker", files[1], "--measure", "latency", code=WITHOUT_TORCH),
    ]
    everyone = [driver, *workers]
    try:
        codes = [driver.wait(400)]
        codes += [worker.wait(60) for worker in workers if codes[0] == 0]
    finally:
        for process in everyone:
            process.kill()
    said = "".join(process.stderr.read() for process in everyone if process.stderr)
    assert codes == [0, 0, 0, 0], said
    experiment = at_storage(load_experiment(files[0]))
    known = read_evaluations(experiment, RunFolder(here / "out"))
    assert len(known) == 22
    assert all(e.failure is None for e in known)
    assert len(list((here / "out" / "models").glob("*/model.onnx"))) == 3
    onnx.checker.check_model(next((here / "out" / "models").glob("*/model.onnx")))
    assert not meeting.left(), "what was on its way is removed"
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(postgres.PASSWORD.encode() in content for content in [*kept, said.encode()])
