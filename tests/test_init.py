"""A first experiment without a file, and the file that `init` writes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import ViTConfig, ViTForImageClassification

from cli import main
from nas.experiment.load import load_experiment
from nas.recipe.starter import name_of

Simqnas = Callable[..., str]


@pytest.fixture
def simqnas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Simqnas:
    """Call the command where there is no terminal; gives what it printed, errors too."""

    def call(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["simqnas", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        with pytest.raises(SystemExit) as caught:
            main()
        printed = "".join(capsys.readouterr())
        assert caught.value.code == code, printed
        return printed

    return call


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "small-vit"
    config = ViTConfig(
        image_size=16, patch_size=8, num_hidden_layers=1,
        hidden_size=32, num_attention_heads=4, intermediate_size=64,
    )  # fmt: skip
    config.num_labels = 10
    ViTForImageClassification(config).save_pretrained(folder)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 16, "do_normalize": True}
    kind = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True}
    (folder / "preprocessor_config.json").write_text(json.dumps({**half, **kind}))
    return folder


def test_init_writes_a_file_that_check_takes(
    simqnas: Simqnas, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    file = tmp_path / "sub" / "first.yaml"
    where = ("--checkpoint", checkpoint.name, "--data", "digits", "--threads", 2)
    told = simqnas("init", *where, "--budget", "20 min", "--out", file)
    assert f"simqnas run {file}" in told.replace("\n", "")
    text = file.read_text()
    assert "# data: train: 1,000 rows used of 1,000" in text
    experiment = load_experiment(file)
    assert experiment.name == "small-vit-digits"
    assert experiment.model.checkpoint == str(checkpoint.resolve())
    assert (experiment.budget, experiment.target.threads) == ("20 min", 2)
    assert "tune" not in experiment.model_fields_set
    assert "is there already" in simqnas("init", *where, "--out", file, code=2)
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init", "--data", "digits"), "--checkpoint: give it, as there is no terminal"),
        (("init", "--checkpoint", "c"), "--data: give it, as there is no terminal"),
        (("run",), "give either an experiment FILE, or --checkpoint and --data"),
        (("run", "--data", "digits"), "--checkpoint and --data: give both"),
        (("run", "x.yaml", "--data", "digits"), "give either an experiment FILE, or"),
        (
            ("run", "--checkpoint", "c", "--data", "d", "--budget", "soon"),
            "run: budget: duration 'soon'",
        ),
    ],
)
def test_what_is_missing_is_told(
    arguments: tuple[str, ...], message: str, simqnas: Simqnas
) -> None:
    assert message in " ".join(simqnas(*arguments, code=2).split())


def test_init_refuses_data_that_are_not_there(
    simqnas: Simqnas, checkpoint: Path, tmp_path: Path
) -> None:
    data = tmp_path / "empty"
    data.mkdir()
    file = tmp_path / "x.yaml"
    simqnas("init", "--checkpoint", checkpoint, "--data", data, "--out", file, code=2)
    assert not file.exists()


def test_options_alone_are_an_experiment(
    simqnas: Simqnas, checkpoint: Path, tmp_path: Path
) -> None:
    """The run that they start is the one of the same three lines."""
    out = tmp_path / "out"
    quick = ["tune.epochs=1", "search.evaluations=4", "search.round_size=4", "polish=null"]
    sets = [word for setting in quick for word in ("--set", setting)]
    where = ("--checkpoint", checkpoint, "--data", "digits", "--out", out)
    assert "report:" in simqnas("run", *where, *sets)
    kept = load_experiment(out / "experiment.yaml")
    assert kept.name == "small-vit-digits"
    assert kept.search.evaluations == 4


@pytest.mark.parametrize(
    ("checkpoint", "data", "name"),
    [
        ("org/model", "some/data.csv", "model-data"),
        ("..", "/", "experiment"),
        ("é e", "d", "e-d"),
    ],
)
def test_names_follow_from_places(checkpoint: str, data: str, name: str) -> None:
    assert name_of(checkpoint, data) == name
