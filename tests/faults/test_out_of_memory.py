"""Memory that is not there: one candidate fails with its reason, everything else goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Evaluation, Measured
from nas.experiment.load import load_experiment
from nas.experiment.metrics import find_metric
from nas.ledger.ledger import Ledger
from nas.ledger.storage import open_storage
from nas.ledger.study import read_evaluations
from nas.run.interrupts import StopRequest
from nas.run.run_folder import RunFolder
from nas.workers.executors import ExecutorError, InProcess, WorkerPool, serve
from supernets.space.space import Gene, SearchSpace
from tests.faults.victim import EXPERIMENT, FORKED, write_experiment

ROOT = Path(__file__).parents[2]
SPACE = SearchSpace((Gene("depth", tuple(range(1, 9))),))
TOO_MUCH = 2**50
"""Bytes that no machine has."""


def killed() -> None:
    """What the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def limited() -> None:
    """An ordinary allocation under a real limit, such as a container's or a batch system's."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, before[1]))
    try:
        bytearray(2**31)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def in_torch() -> None:
    torch.empty(TOO_MUCH)


def in_onnxruntime() -> None:
    shape = numpy_helper.from_array(np.array([TOO_MUCH], np.int64), "shape")
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["y"])],
        "huge",
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    session.run(None, {"shape": numpy_helper.to_array(shape)})


CALAMITIES: dict[int, tuple[Callable[[], None], str]] = {
    2: (killed, "its process died 4 times"),
    4: (limited, "MemoryError: out of memory"),
    6: (in_torch, "can't allocate memory"),
    8: (in_onnxruntime, "Failed to allocate memory"),
}
"""Depth of the candidate -> what happens in its evaluation, and a part of the reason recorded."""


def evaluate(candidate: Candidate) -> Measured:
    """A candidate's depth as its accuracy, unless something is in the way."""
    depth = int(candidate.values["depth"])
    if depth in CALAMITIES:
        CALAMITIES[depth][0]()
    return Measured({"accuracy": depth / 100}, Details(target={"process": os.getpid()}))


def open_ledger(folder: Path, depths: tuple[int, ...] = ()) -> Ledger:
    storage = open_storage(None, folder / "journal")
    ledger = Ledger.open(storage, "memory", SPACE, (find_metric("accuracy"),))
    genomes = np.array(depths, np.int64)[:, None] - 1
    ledger.enqueue([Candidate.from_genome(SPACE, genome) for genome in genomes], "search", 1)
    return ledger


def by_depth(ledger: Ledger) -> dict[int, Evaluation]:
    return {int(e.candidate.values["depth"]): e for e in ledger.evaluations()}


def assert_only_the_unlucky_failed(known: dict[int, Evaluation], depths: tuple[int, ...]) -> None:
    assert set(known) == set(depths)
    for depth, evaluation in known.items():
        if depth in CALAMITIES:
            assert CALAMITIES[depth][1] in str(evaluation.failure)
        else:
            assert evaluation.metrics == {"accuracy": depth / 100}


def test_a_failed_allocation_costs_one_candidate(tmp_path: Path) -> None:
    depths = (1, 3, 4, 5, 6, 7, 8)
    ledger = open_ledger(tmp_path, depths)
    InProcess(evaluate).work_off(ledger, lambda: None)
    assert_only_the_unlucky_failed(by_depth(ledger), depths)


class Hired:
    """A process that does `work` in a folder, as `WorkerPool` holds its workers."""

    def __init__(self, work: Callable[[Path], None], folder: Path) -> None:
        self.process = FORKED.Process(target=work, args=(folder,))
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    returncode = property(poll)

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self) -> None:
        self.process.join()


def work(folder: Path) -> None:
    """What a worker does."""
    serve(open_ledger(folder), evaluate, StopRequest(), driver=str(os.getppid()))


def die(_: Path) -> None:
    """What a worker does that never gets to work."""
    killed()


def test_a_killed_worker_is_replaced_and_its_candidate_alone_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths = tuple(range(1, 9))
    ledger = open_ledger(tmp_path, depths)
    ledger.note(open=False)  # left by an earlier driver of remote workers; own ones do not mind
    monkeypatch.setattr(WorkerPool, "_start_worker", lambda pool: Hired(work, pool.folder))
    with WorkerPool(tmp_path, 1) as pool:
        pool.work_off(ledger, lambda: None)
    known = by_depth(ledger)
    assert_only_the_unlucky_failed(known, depths)
    processes = {e.details.target["process"] for e in known.values() if e.failure is None}
    assert os.getpid() not in processes


def test_workers_that_never_get_to_a_candidate_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(tmp_path, (1,))
    monkeypatch.setattr(WorkerPool, "_start_worker", lambda pool: Hired(die, pool.folder))
    with WorkerPool(tmp_path, 2) as pool, pytest.raises(ExecutorError, match="signal 9"):
        pool.work_off(ledger, lambda: None)
    assert ledger.unfinished == 1


HIT = """
import os
if "SIMQNAS_DRIVER" in os.environ:
    from nas.evaluation.evaluator import Evaluator
    from tests.faults.test_out_of_memory import unlucky
    Evaluator.__call__ = unlucky(Evaluator.__call__)
"""
"""A sitecustomize.py for the workers that a run hires itself."""


UNLUCKY = dict(zip((3, 9, 16, 22), CALAMITIES.values(), strict=True))
"""The same by a candidate's place in a run, too few at a time for it to give up."""


def unlucky(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Evaluates for real, but some candidates, in the order of all, meet the calamities."""
    log = Path(os.environ["SEEN"])

    def evaluate(evaluator: object, candidate: Candidate) -> Any:
        with log.open("a") as file:
            file.write(candidate.key + "\n")
        number = list(dict.fromkeys(log.read_text().split())).index(candidate.key)
        if number in UNLUCKY:
            UNLUCKY[number][0]()
        return plain(evaluator, candidate)

    return evaluate


@pytest.mark.slow
def test_an_isolated_run_gets_to_its_end(tmp_path: Path) -> None:
    """Four calamities, of which one kills four processes; both references are spared."""
    (tmp_path / "sitecustomize.py").write_text(HIT)
    search = {**EXPERIMENT["search"], "evaluations": 24}  # type: ignore[dict-item] # a dict
    file = write_experiment(tmp_path, isolate=True, search=search)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "SEEN": str(tmp_path / "seen"),
    }
    command = [sys.executable, "-m", "cli", "run", str(file), "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    known = read_evaluations(load_experiment(file), RunFolder(tmp_path / "out"))
    order = list(dict.fromkeys((tmp_path / "seen").read_text().split()))
    failures = {order.index(e.candidate.key): e.failure for e in known if e.failure is not None}
    assert failures.keys() == UNLUCKY.keys()
    for number, failure in failures.items():
        assert UNLUCKY[number][1] in str(failure)
    assert len(known) == 26
    assert (tmp_path / "out" / "report.html").exists()
