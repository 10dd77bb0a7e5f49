"""The ledger: nothing is lost, nothing is measured twice."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from hardware.latency import Latency
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Details, Measured
from nas.experiment.metrics import find_metric
from nas.ledger.ledger import Ledger
from nas.ledger.run_state import RunState
from nas.ledger.storage import cut_torn_tail, open_storage
from supernets.space.space import Gene, Requires, SearchSpace

SPACE = SearchSpace(
    (
        Gene("depth", (1, 2)),
        Gene.precision("blocks.0", ("int4", "int8")),
        Gene.precision("blocks.1", ("int4", "int8"), Requires("depth", 2)),
    )
)
OBJECTIVES = (find_metric("accuracy"), find_metric("size_bytes"))
METRICS = {"accuracy": 0.5, "size_bytes": 7.0}


def open_ledger(folder: Path) -> Ledger:
    return Ledger.open(open_storage(None, folder / "journal"), "run", SPACE, OBJECTIVES)


def candidates(n: int) -> list[Candidate]:
    genomes = np.unique(SPACE.sample(100, np.random.default_rng(0)), axis=0)[:n]
    return [Candidate.from_genome(SPACE, genome) for genome in genomes]


def test_a_candidate_comes_back_with_its_metrics(tmp_path: Path) -> None:
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    details = Details(Latency(2.0, 1.5, 3.0, 30), "all", {"cpu": "fast"}, duration_s=1.5)
    ledger.enqueue([candidate], "search", 1)
    ticket = ledger.take()
    assert ticket is not None
    assert ticket.candidate == candidate
    ledger.finish(ticket, Measured(METRICS, details))
    (evaluation,) = open_ledger(tmp_path).evaluations()
    assert evaluation.candidate == candidate
    assert evaluation.metrics == METRICS
    assert evaluation.details == details
    assert ledger.take() is None


def test_a_candidate_is_queued_once(tmp_path: Path) -> None:
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    ledger.enqueue([candidate], "search", 1)
    ledger.enqueue([candidate], "search", 2)
    assert ledger.take() is not None
    assert ledger.take() is None


def test_a_failure_keeps_its_reason(tmp_path: Path) -> None:
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    ledger.enqueue([candidate], "search", 1)
    ticket = ledger.take()
    assert ticket is not None
    ledger.fail(ticket, "out of memory")
    (evaluation,) = ledger.evaluations()
    assert evaluation.failure == "out of memory"
    assert evaluation.metrics == {}


def test_a_claimed_candidate_of_a_dead_process_waits_again(tmp_path: Path) -> None:
    first, second = candidates(2)
    ledger = open_ledger(tmp_path)
    ledger.enqueue([first, second], "search", 1)
    assert ledger.take() is not None  # and the process dies here
    revived = open_ledger(tmp_path)
    revived.recover()
    taken = [revived.take(), revived.take()]
    assert {ticket.candidate for ticket in taken if ticket} == {first, second}
    assert revived.take() is None


def test_a_measured_candidate_of_a_dead_process_is_not_measured_again(tmp_path: Path) -> None:
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    ledger.enqueue([candidate], "search", 1)
    ticket = ledger.take()
    assert ticket is not None
    ticket.trial.set_user_attr("metrics", METRICS)
    ticket.trial.set_user_attr("details", {})  # and the process dies before it tells the values
    revived = open_ledger(tmp_path)
    revived.recover()
    assert revived.take() is None
    (evaluation,) = revived.evaluations()
    assert evaluation.metrics == METRICS


def test_the_order_of_evaluations_does_not_depend_on_interruptions(tmp_path: Path) -> None:
    plain, broken = open_ledger(tmp_path / "a"), open_ledger(tmp_path / "b")
    for ledger in (plain, broken):
        for candidate in candidates(4):
            ledger.enqueue([candidate], "search", 1)
    assert broken.take() is not None  # and the process dies here
    broken = open_ledger(tmp_path / "b")
    broken.recover()
    for ledger in (plain, broken):
        while (ticket := ledger.take()) is not None:
            ledger.finish(ticket, Measured(METRICS, Details()))
    assert [e.candidate for e in plain.evaluations()] == [e.candidate for e in broken.evaluations()]


def test_a_torn_last_line_is_cut_and_nothing_else(tmp_path: Path) -> None:
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    ledger.enqueue([candidate], "search", 1)
    journal = tmp_path / "journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    cut_torn_tail(journal)
    assert journal.read_bytes() == whole
    revived = open_ledger(tmp_path)
    ticket = revived.take()
    assert ticket is not None
    revived.finish(ticket, Measured(METRICS, Details()))
    assert len(open_ledger(tmp_path).evaluations()) == 1


def test_other_tools_may_write_into_a_journal(tmp_path: Path) -> None:
    """As optuna-dashboard does; it locks the journal in Optuna's way, not in ours."""
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    ledger.enqueue([candidate], "search", 1)
    backend = JournalFileBackend(str(tmp_path / "journal"))
    started = time.monotonic()
    other = optuna.load_study(study_name="run", storage=JournalStorage(backend))
    other.set_user_attr("note", "good")
    assert time.monotonic() - started < 10, "Optuna takes a lock for a dead process's after 30 s"
    ticket = ledger.take()
    assert ticket is not None
    ledger.finish(ticket, Measured(METRICS, Details()))
    assert ledger.study.user_attrs["note"] == "good"
    assert ledger.state == RunState()
    assert len(open_ledger(tmp_path).evaluations()) == 1


def test_optuna_reads_genes_as_parameters_and_objectives_as_values(tmp_path: Path) -> None:
    ledger, (candidate,) = open_ledger(tmp_path), candidates(1)
    ledger.enqueue([candidate], "search", 1)
    ticket = ledger.take()
    assert ticket is not None
    ledger.finish(ticket, Measured(METRICS, Details()))
    study = optuna.load_study(study_name="run", storage=open_storage(None, tmp_path / "journal"))
    (trial,) = study.trials
    assert trial.params == candidate.values
    assert trial.values == [0.5, 7.0]
    assert study.metric_names == ["accuracy", "size_bytes"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()


def test_the_state_of_a_run_is_read_by_whoever_opens_the_ledger(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert ledger.state == RunState()
    ledger.note(open=False, supernet={"space.json": "run.0123"}, int4_kernel="w4a8")
    expected = RunState(open=False, supernet={"space.json": "run.0123"}, int4_kernel="w4a8")
    assert open_ledger(tmp_path).state == expected
    size = (tmp_path / "journal").stat().st_size
    ledger.note(open=False)  # as it is already
    assert (tmp_path / "journal").stat().st_size == size
    with pytest.raises(TypeError, match="opened"):
        ledger.note(opened=True)
