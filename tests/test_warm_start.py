"""A run that starts from another one's super-network."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.evaluation.record import searched
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.ledger.warm_start import inherit, known_candidates, opened_from
from nas.pipeline import run
from nas.run.data_record import record_of
from nas.run.run_folder import RunFolder, RunFolderError
from nas.run.saved_experiment import read_experiment
from supernets.load import load_data
from tests.conftest import FEW, TINY
from tests.test_pipeline import Silent

QUICK = {
    **TINY,
    "data": FEW,
    "model": {**TINY["model"], "training": {"epochs": 2, "batch_size": 128}},  # type: ignore[dict-item] # a dict
    "tune": {"epochs": 1, "batch_size": 128},
    "search": {"evaluations": 6, "round_size": 2, "generations": 5},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    base = tmp_path_factory.mktemp("source")
    folder = RunFolder(base / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMQNAS_CACHE", str(base / "cache"))
        run(Experiment.model_validate(QUICK), folder, Silent())
    return folder


def other(**sections: object) -> Experiment:
    """Another question about the same super-network."""
    asked = {"name": "other", "objectives": ["accuracy", "size_bytes"]}
    return Experiment.model_validate({**QUICK, **asked, **sections})


def test_weights_and_scores_are_taken_over(
    source: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search ends after a round that adds nothing to what is taken over."""
    folder, reporter = RunFolder(tmp_path / "out"), Silent()
    monkeypatch.setattr(
        "nas.search_loop.hypervolumes", lambda _, __, rounds: dict.fromkeys(sorted(rounds), 0.5)
    )
    patient = {"evaluations": 12, "round_size": 2, "generations": 5, "patience": 1}
    given = other(search=patient)
    run(given, folder, reporter, source=source)
    assert not {"training", "tuning", "exporting the template"} & set(reporter.told)
    for name in ("model.safetensors", "space.json"):
        assert (folder.supernet / name).read_bytes() == (source.supernet / name).read_bytes()
    before = searched(read_evaluations(read_experiment(source), source))
    after = searched(read_evaluations(read_experiment(folder), folder))
    assert len(before) == 6
    assert len(after) == 8
    known = {e.candidate.key: e.metrics["accuracy"] for e in before}
    assert {e.candidate.key: e.metrics["accuracy"] for e in after if e.round == 0} == known
    assert set(known) < set(known_candidates(folder))  # the references too
    assert "--from" in " ".join(reporter.told)
    assert any("1 rounds have added next to nothing" in line for line in reporter.told)
    assert run(given, folder, reporter, source=source).evaluations == 10


def test_scores_of_other_batches_are_not_taken(source: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out")
    given = opened_from(other(target={"batch_size": 2}), source)
    record = record_of(given, load_data(given.data, given.model))
    assert "scores of 0 candidates" in inherit(given, record, folder, source)
    assert (folder.supernet / "model.safetensors").exists()
    assert not known_candidates(folder)


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"tune": {"epochs": 2, "batch_size": 128}}, "tune.epochs was 1, now 2"),
        ({"seed": 4}, "seed was 3, now 4"),
        ({"data": {**FEW, "max_train": 500}}, "data.max_train was None, now 500"),
    ],
)
def test_another_super_network_is_refused(
    sections: dict[str, object], named: str, source: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match=named):
        run(other(**sections), RunFolder(tmp_path / "out"), Silent(), source=source)
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        run(other(), RunFolder(tmp_path / "o"), Silent(), source=RunFolder(tmp_path / "none"))
