"""Run folders of version 0.1.0 still open: one that it wrote lies beside this file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cli import main
from hardware.formats.fp32 import FP32
from nas.experiment.load import load_experiment
from nas.ledger.study import read_evaluations
from nas.pipeline import run
from nas.run.run_folder import RunFolder
from supernets.load import load_data
from tests.test_pipeline import Silent

KEPT = Path(__file__).parent / "run_folder_0_1_0"


@pytest.fixture
def old(tmp_path: Path) -> RunFolder:
    """A copy to work on."""
    return RunFolder(shutil.copytree(KEPT, tmp_path / "run"))


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["simqnas", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0


def test_show(
    old: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, "show", old.path, "--json")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["stage"], shown["step"], len(shown["evaluations"])) == ("finished", 6, 8)
    for evaluation in shown["evaluations"]:
        latency = evaluation["details"]["latency"]
        assert latency["median_ms"] == evaluation["metrics"]["latency_ms"]
        assert "layers in low precision" in evaluation["details"]["coverage"]


def test_report(old: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    written = old.report_markdown.read_text(encoding="utf-8")
    old.report_markdown.unlink()
    command(monkeypatch, "report", old.path)
    tables = [line for line in written.splitlines() if line.startswith("| fp32")]
    assert set(tables) <= set(old.report_markdown.read_text(encoding="utf-8").splitlines())
    assert 'id="picture-data"' in old.report_html.read_text(encoding="utf-8")


def test_export(old: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network cut from the old template and weights computes what it computed."""
    experiment = load_experiment(old.experiment)
    plain = next(
        evaluation.candidate
        for evaluation in read_evaluations(experiment, old)
        if set(evaluation.candidate.policy.values()) == {FP32}
    )
    command(monkeypatch, "export", old.path, "--out", tmp_path / "out", "--key", plain.key)
    (batch,) = load_data(experiment.data, experiment.model).test.batches(1000)
    feed = {"pixel_values": batch.inputs["pixel_values"].numpy()}
    before, after = (
        onnxruntime.InferenceSession(folder / "model.onnx").run(["logits"], feed)[0]
        for folder in (old.model("fp32"), tmp_path / "out" / plain.key)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_search_goes_on(old: RunFolder) -> None:
    known = read_evaluations(load_experiment(old.experiment), old)
    experiment = load_experiment(old.experiment, ["search.evaluations=8"])
    reporter = Silent()
    assert run(experiment, old, reporter).evaluations == 10
    assert not {"training", "tuning"} & set(reporter.told)
    assert read_evaluations(experiment, old)[: len(known)] == known
