"""A tiny run in a process of its own that can be killed at any change it makes to its files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import yaml

from nas.evaluation.record import Evaluation
from nas.experiment.load import load_experiment
from nas.ledger.study import read_evaluations
from nas.run.interrupts import StoppableReporter, StopRequest
from nas.run.run_folder import RunFolder, RunFolderError

EXPERIMENT = {
    "name": "victim",
    "seed": 5,
    "model": {
        "vit": {
            "image_size": 16,
            "patch_size": 8,
            "embed_dim": 16,
            "depth": 2,
            "num_heads": 2,
            "hidden_dim": 32,
        },
        "training": {"epochs": 1, "batch_size": 300},
    },
    "data": {"name": "digits", "max_validation": 100, "max_test": 100},
    "space": {"depth": [1, 2], "num_heads": [1, 2], "hidden_dim": [16, 32]},
    "tune": {"epochs": 1, "batch_size": 300},
    "search": {"evaluations": 5, "round_size": 3, "generations": 3},
    "polish": {"epochs": 1, "batch_size": 300},
    "export": {"models": 1},
}
WRITING = os.O_WRONLY | os.O_RDWR

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.faults.unborn"])
"""Every victim is forked from a process that has imported the frameworks, and done once what all
of them begin with."""


class Still:
    """A reporter that says nothing."""

    def stage(self, title: str) -> Still:
        return self

    def update(self, step: int, total: int, note: str = "") -> None:
        pass

    def say(self, message: str) -> None:
        pass


def write_experiment(folder: Path, **sections: object) -> Path:
    """The experiment as a file."""
    path = folder / "victim.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **sections}))
    return path


def start(file: Path, out: Path, kill_at: int | None = None) -> ForkServerProcess:
    """Run the experiment in a new process, killed at its change number `kill_at`."""
    process = FORKED.Process(target=_run, args=(file, out, kill_at, dict(os.environ)))
    process.start()
    return process


def finish(file: Path, out: Path, kill_at: int | None = None) -> bool:
    """Run to the end, or to the kill; whether it was killed."""
    process = start(file, out, kill_at)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int | None
    stderr: str


def simqnas(*arguments: object, limit: int | None = None) -> Ended:
    """The command in a process of its own, no file larger than `limit` bytes."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "stderr"
        words = [str(argument) for argument in arguments]
        process = FORKED.Process(target=_call, args=(words, said, limit, dict(os.environ)))
        process.start()
        process.join()
        return Ended(process.exitcode, said.read_text())


def _call(words: list[str], said: Path, limit: int | None, environment: dict[str, str]) -> None:
    from cli import main

    os.environ.update(environment)
    for stream, place in ((sys.stdout, os.devnull), (sys.stderr, said)):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT), stream.fileno())
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["simqnas", *words]
    main()


def known(file: Path, out: Path) -> dict[str, Evaluation]:
    """What the ledger holds now, by key."""
    try:
        found = read_evaluations(load_experiment(file), RunFolder(out))
    except RunFolderError:
        return {}
    assert len({e.candidate.key for e in found}) == len(found), "measured twice"
    return {evaluation.candidate.key: evaluation for evaluation in found}


def _run(file: Path, out: Path, kill_at: int | None, environment: dict[str, str]) -> None:
    import torch

    from nas.pipeline import run
    from nas.training import training_checkpoints as checkpoints

    os.environ.update(environment)
    torch.set_num_threads(1)
    checkpoints.INTERVAL_S = 0.0  # a checkpoint after every step
    if kill_at is not None:
        _kill_at_change(kill_at, out)
    request = StopRequest(notice="")
    with request.listening():
        run(load_experiment(file), RunFolder(out), StoppableReporter(Still(), request))


def _kill_at_change(number: int, folder: Path) -> None:
    """SIGKILL this process when it is about to change something in `folder` for the n-th time."""
    left = number

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        path = str(arguments[0]) if arguments else ""
        if _changes(event, arguments) and path.startswith(str(folder)) and path[-5:] != ".lock":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _changes(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        return bool(int(arguments[2] or 0) & WRITING)  # type: ignore[call-overload] # flags
    return event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
