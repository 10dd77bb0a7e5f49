"""The functions for those who script, against the command line and the run folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nas.api import Experiment, ExperimentError, RunFolderError, check, load_run, search
from nas.recipe.defaults import Recipe
from nas.run.progress import Stage
from tests.conftest import FEW, TINY

ROOT = Path(__file__).parent.parent


class Told:
    """A reporter and stage that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.lines: list[str] = []

    def stage(self, title: str) -> Stage:
        self.stages.append(title)
        return self

    def say(self, message: str) -> None:
        self.lines.append(message)

    def update(self, step: int, total: int, note: str = "") -> None:
        """A stage's progress."""


def sections() -> dict[str, object]:
    quick = {"epochs": 1, "batch_size": 250}
    vit = {**TINY["model"]["vit"], "depth": 2}  # type: ignore[index] # a dict in a dict
    return {
        **TINY,
        "data": FEW,
        "model": {"vit": vit},
        "space": {"depth": [1, 2], "num_heads": [2, 4], "hidden_dim": [32, 64]},
        "tune": quick,
        "search": {"evaluations": 4, "round_size": 4, "population": 10, "generations": 2},
        "export": {"models": 1},
        "polish": None,
    }


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, told: Told) -> Path:
    """A run that `search` made of sections."""
    base = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMQNAS_CACHE", str(base / "cache"))
        run = search(sections(), base / "run", reporter=told)
    assert run.folder == base / "run"
    return run.folder


def test_search_gives_what_the_run_folder_holds(folder: Path, told: Told) -> None:
    run = load_run(folder)
    front = json.loads((folder / "front.json").read_text())
    assert run.recommended == front["recommended"]
    assert json.loads(json.dumps(run.validated.to_json())) == front
    assert run.model() == folder / "models" / run.recommended
    assert (run.model("fp32") / "model.onnx").stat().st_size == run.validated.model(
        "fp32"
    ).size_bytes
    assert sum(e.role == "search" for e in run.evaluations) == 4
    assert run.report.exists()
    assert told.stages
    assert any("target: cpu" in line.lower() for line in told.lines)


def test_a_run_has_every_value_that_check_derives(folder: Path, tmp_path: Path) -> None:
    given, findings = sections(), list[object]()
    before = json.dumps(given)
    experiment = check(given, tmp_path / "run", tell=findings.append)
    assert experiment == load_run(folder).experiment
    assert json.dumps(given) == before
    assert any("distinct candidates" in str(line) for line in findings)
    assert not (tmp_path / "run" / "supernet").exists()


def test_a_file_a_dict_and_typed_settings_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted: list[Experiment] = []

    def admit(experiment: Experiment, *_: object, tell: object) -> tuple[None, Recipe]:
        admitted.append(experiment)
        return None, Recipe(experiment, {})

    monkeypatch.setattr("nas.dry_run.admit", admit)
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(sections()))
    for form in (sections(), Experiment.model_validate(sections()), path, str(path)):
        check(form)
    assert len(admitted) == 4
    assert all(experiment == admitted[0] for experiment in admitted)


def test_mistakes_are_one_line_each(folder: Path, tmp_path: Path) -> None:
    wrong = {**sections(), "seed": -1, "serch": {}}
    with pytest.raises(ExperimentError) as caught:
        search(wrong, tmp_path)
    assert len(caught.value.problems) == 2
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunFolderError, match="holds no run"):
        load_run(tmp_path)
    with pytest.raises(RunFolderError, match="there are "):
        load_run(folder).model("nothing")


def test_importing_loads_no_framework() -> None:
    code = (
        "import sys, nas, nas.api\n"
        "heavy = {'torch', 'transformers', 'optuna', 'sklearn', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
