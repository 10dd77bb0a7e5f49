"""A whole run on real digits, small enough for every test session."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from cli import main
from hardware.latency import Latency
from hardware.portability.agreement import verify_folder
from hardware.portability.runtimes import Runtime
from nas.delivery.exporter import Exporter, ExportError
from nas.delivery.outcomes import read_outcomes
from nas.delivery.promise import NEEDS, in_words
from nas.delivery.results import Front
from nas.evaluation.baselines import measured_references
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.latency_cache import LatencyCache
from nas.evaluation.record import Evaluation, searched
from nas.evaluation.score_meter import RuntimeScore
from nas.experiment.load import load_experiment
from nas.ledger.study import read_evaluations
from nas.pipeline import export, run
from nas.reporting.facts import Report
from nas.reporting.offers import offer_rows
from nas.reporting.report import write_report
from nas.run.interrupts import Stopped
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, RunFolderError
from nas.run_session import RunSession
from nas.search_loop import SearchError
from nas.training.finetune import FineTuner, Score
from supernets.data.images import ImageSplit
from supernets.load import load_data
from supernets.metrics.paired import Comparison
from supernets.settings import PolishSettings, TeacherSettings
from supernets.tasks.predictions import Predictions
from tests.conftest import LITTLE, TINY

Write = Callable[..., Path]
RECORD = LatencyCache._record


class Silent:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def stage(self, title: str) -> Silent:
        self.told.append(title)
        return self

    def update(self, step: int, total: int, note: str = "") -> None:
        assert 0 <= step <= total

    def say(self, message: str) -> None:
        self.told.append(message)


def undisturbed(entry: Path, conditions: Mapping[str, Any], latency: Latency) -> Latency:
    """Remember every latency: of one that others disturbed an equal run sees another number."""
    return RECORD(entry, conditions, replace(latency, disturbed=False))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunFolder, Front]]:
    """A finished run, shared by the tests that only look at it."""
    base = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMQNAS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(LatencyCache, "_record", staticmethod(undisturbed))
        path = base / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY))
        folder = RunFolder(base / "out")
        yield folder, run(load_experiment(path), folder, Silent())


def copied(folder: RunFolder, path: Path) -> RunFolder:
    """A run of its own to go on with."""
    return RunFolder(shutil.copytree(folder.path, path))


def test_the_folder_holds_what_the_readme_says(finished: tuple[RunFolder, Front]) -> None:
    folder, front = finished
    for path in (folder.experiment, folder.journal, folder.predictors, folder.front):
        assert path.stat().st_size > 0
    assert len(front.front) <= TINY["export"]["models"]  # type: ignore[index] # a dict in a dict
    assert {model.name for model in front.references} == {"fp32", "int8"}
    for model in front.models:
        names = {path.name for path in folder.model(model.name).iterdir()}
        expected = {"model.onnx", "config.json", "preprocessor_config.json", "policy.json"}
        assert names == expected | {"README.md", "samples.npz"}


def test_every_exported_model_answers_its_samples_as_it_did(
    finished: tuple[RunFolder, Front],
) -> None:
    folder, front = finished
    for model in front.models:
        (row,) = verify_folder(folder.model(model.name), [Runtime("onnxruntime")])
        assert row.agrees
        assert row.difference == 0
        (measured,) = model.agreements
        assert measured.version == onnxruntime.__version__
        assert measured.difference == 0
        assert measured.version in (folder.model(model.name) / "README.md").read_text()


def test_exported_models_give_the_reported_test_accuracy(
    finished: tuple[RunFolder, Front],
) -> None:
    """With plain ONNX Runtime and pixels prepared as preprocessor_config.json says."""
    folder, front = finished
    experiment = load_experiment(folder.experiment)
    data = load_data(experiment.data, experiment.model)
    batches = list(data.test.batches(1))
    labels = np.concatenate([batch.labels.numpy() for batch in batches])
    for model in front.models:
        path = folder.model(model.name) / "model.onnx"
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        pixels = [{"pixel_values": b.inputs["pixel_values"].numpy()} for b in batches]
        logits = np.concatenate([session.run(["logits"], feed)[0] for feed in pixels])
        assert float((logits.argmax(axis=1) == labels).mean()) == model.test_score


def test_exported_models_are_what_the_policy_says(finished: tuple[RunFolder, Front]) -> None:
    folder, front = finished
    for model in front.models:
        written = json.loads((folder.model(model.name) / "policy.json").read_text())
        assert written["policy"] == {k: v.name for k, v in model.candidate.policy.items()}
        path = folder.model(model.name) / "model.onnx"
        assert path.stat().st_size == model.size_bytes
        onnx.checker.check_model(path, full_check=True)
        batch = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
        assert batch.dim_param == "batch"


def test_the_model_card_runs_as_it_stands(finished: tuple[RunFolder, Front]) -> None:
    """Its code, alone in the model's folder, classifies a saved image as the session does."""
    folder, front = finished
    experiment = load_experiment(folder.experiment)
    data = load_data(experiment.data, experiment.model)
    model = folder.model(front.recommended)
    code = (model / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 12
    assert isinstance(data.test, ImageSplit)
    Image.fromarray(data.test.pixels[torch.tensor([0])][0].permute(1, 2, 0).numpy()).save(
        model / "image.png"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=model, check=True, capture_output=True, text=True
    ).stdout
    (model / "image.png").unlink()
    session = onnxruntime.InferenceSession(model / "model.onnx")
    (batch,) = [next(iter(data.test.batches(1)))]
    logits = session.run(["logits"], {"pixel_values": batch.inputs["pixel_values"].numpy()})[0]
    assert printed.strip() == data.label_names[int(logits[0].argmax())]


def test_whole_requests_are_timed_and_told(finished: tuple[RunFolder, Front]) -> None:
    folder, front = finished
    for model in front.models:
        assert model.end_to_end_ms is not None
        median, low, high = model.end_to_end_ms
        assert 0 < low <= median <= high
        card = (folder.model(model.name) / "README.md").read_text()
        assert f"| end-to-end latency, preprocessing included | {median:.3f} ms" in card
    assert "end-to-end latency (ms)" in folder.report_html.read_text()


def test_references_are_the_largest_network(finished: tuple[RunFolder, Front]) -> None:
    _, front = finished
    largest = {"depth": 3, **{f"blocks.{i}.mlp.hidden_dim": 64 for i in range(3)}}
    for reference in front.references:
        assert dict(reference.candidate.architecture).items() >= largest.items()
        assert {p.name for p in reference.candidate.policy.values()} == {reference.name}
        assert reference.versus[reference.name].size_ratio == 1


def test_sizes_in_the_ledger_are_those_of_the_files(finished: tuple[RunFolder, Front]) -> None:
    folder, front = finished
    known = read_evaluations(load_experiment(folder.experiment), folder)
    sizes = {e.candidate.key: e.metrics["size_bytes"] for e in known}
    for model in front.models:
        assert sizes[model.candidate.key] == model.size_bytes


def test_running_again_measures_nothing(finished: tuple[RunFolder, Front]) -> None:
    folder, front = finished
    experiment = load_experiment(folder.experiment)
    before = folder.journal.read_text().count("trial_id"), read_evaluations(experiment, folder)
    again = run(experiment, folder, Silent())
    assert again == front
    after = folder.journal.read_text().count("trial_id"), read_evaluations(experiment, folder)
    assert after == before


def test_a_run_keeps_the_int4_kernel_it_began_with(
    finished: tuple[RunFolder, Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On whatever machine it goes on: the kernel decides accuracies, the measuring is noise."""
    folder, _ = finished
    experiment = load_experiment(folder.experiment)
    before = RunSession.prepare(
        experiment, folder, load_data(experiment.data, experiment.model), Silent()
    )

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the run has chosen before")

    monkeypatch.setattr("nas.evaluation.candidate_builder.choose_int4_kernel", forbidden)
    for kernel in ("w4a8", "matmulnbits"):
        before.ledger.study.set_user_attr("int4_kernel", kernel)
        again = RunSession.prepare(experiment, folder, before.data, Silent())
        assert again.builder.scheme.int4_kernel == kernel
    before.ledger.note(int4_kernel=before.builder.scheme.int4_kernel)


def test_the_same_seed_gives_the_same_candidates_and_accuracies(
    finished: tuple[RunFolder, Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    experiment = load_experiment(folder.experiment)
    again = RunFolder(tmp_path / "again")

    def stop(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr("nas.pipeline.validate_and_export", stop)  # all is measured by then
    with pytest.raises(Stopped):
        run(experiment, again, Silent())
    first, second = read_evaluations(experiment, folder), read_evaluations(experiment, again)
    assert [e.candidate for e in first] == [e.candidate for e in second]
    accuracies = [[e.metrics["accuracy"] for e in known] for known in (first, second)]
    assert accuracies[0] == accuracies[1]


def test_more_evaluations_continue_the_run(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    folder, front = finished
    longer = copied(folder, tmp_path / "longer")
    experiment = load_experiment(folder.experiment, ["search.evaluations=24"])
    extended = run(experiment, longer, Silent())
    assert extended.evaluations == front.evaluations + 4
    assert {p.name for p in longer.models.iterdir()} == {m.name for m in extended.models}
    keys = [e.candidate.key for e in read_evaluations(experiment, longer)]
    assert len(keys) == len(set(keys)) == 26


@pytest.mark.parametrize(
    "override", ["seed=4", "tune.epochs=7", "space.depth=[2,3]", "data.augment=false"]
)
def test_another_experiment_is_refused_and_nothing_changes(
    finished: tuple[RunFolder, Front], override: str
) -> None:
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    experiment = load_experiment(folder.experiment, [override])
    with pytest.raises(RunFolderError, match=override.split("=")[0]):
        run(experiment, folder, Silent())
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


def test_the_report_names_models_and_loads_nothing(finished: tuple[RunFolder, Front]) -> None:
    folder, front = finished
    page, text = folder.report_html.read_text(), folder.report_markdown.read_text()
    for model in front.models:
        assert model.name in page
        assert model.name in text
    assert front.recommended in text
    assert "<script src" not in page
    assert "<link" not in page


def test_the_recommendation_is_the_fastest_within_the_drop(
    finished: tuple[RunFolder, Front],
) -> None:
    """The smallest of those as fast to the 3 % by which times scatter; disturbed ones last."""
    _, front = finished
    bar = front.model("int8").validation_score - 0.005
    good = [model for model in front.models if model.validation_score >= bar]
    calm = [model for model in good if not model.latency_disturbed] or good
    limit = 1.03 * min(model.latency_ms[0] for model in calm)
    as_fast = [model for model in calm if model.latency_ms[0] <= limit]
    assert front.recommended == min(as_fast, key=lambda m: m.size_bytes).name


def test_export_writes_any_measured_candidate(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    folder, front = finished
    model = front.front[0]
    (path,) = export(folder, tmp_path, model.candidate.key, None, "fp32", Silent())
    written = (path / "model.onnx").read_bytes()
    assert written == (folder.model(model.name) / "model.onnx").read_bytes()
    (path,) = export(folder, tmp_path, None, "smallest", "int4", Silent())
    policy = json.loads((path / "policy.json").read_text())
    assert set(policy["policy"].values()) == {"int4"}
    assert policy["architecture"]["depth"] == 1


def test_a_run_that_is_stopped_while_it_exports_anew_has_its_report(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    copy = copied(finished[0], tmp_path / "copy")
    copy.model("fp32").joinpath("README.md").unlink()
    experiment = load_experiment(copy.experiment, [])
    told = Report.of(experiment, copy, read_evaluations(experiment, copy))
    assert told.finished
    assert set(told.cards) == {model.name for model in finished[1].models} - {"fp32"}


def test_polishing_ships_the_better_of_two(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    """A finished run that is asked to polish does only that, and ships what it measured."""
    folder, found = finished
    copy = copied(folder, tmp_path / "copy")
    polish = {"epochs": 2, "batch_size": 128, "learning_rate": 0.001}
    experiment = load_experiment(copy.experiment, [f"polish={json.dumps(polish)}"])
    reporter = Silent()
    front = run(experiment, copy, reporter)
    assert front.evaluations == found.evaluations
    assert len(front.models) == len(found.models)
    assert any(model.polished for model in front.front)
    data = load_data(experiment.data, experiment.model)
    measured = {e.candidate.key: e.metrics for e in read_evaluations(experiment, copy)}
    for model in front.models:
        if model.role == "reference":
            assert (model.unpolished_score, model.polished) == (None, False)
            continue
        assert model.unpolished_score == measured[model.name]["accuracy"]
        assert model.validation_score >= model.unpolished_score
        session = onnxruntime.InferenceSession(copy.model(model.name) / "model.onnx")
        hits = [
            session.run(None, {"pixel_values": batch.inputs["pixel_values"].numpy()})[0].argmax()
            == batch.labels.item()
            for batch in data.validation.batches(1)
        ]
        assert np.mean(hits) == pytest.approx(model.validation_score)
        (written,) = export(copy, tmp_path / "out", model.name, None, "fp32", Silent())
        shipped = copy.model(model.name) / "model.onnx"
        assert (written / "model.onnx").read_bytes() == shipped.read_bytes()
    told = len(reporter.told)
    assert run(experiment, copy, reporter) == front
    assert not any("polish" in line for line in reporter.told[told:])


def test_more_models_polish_no_model_again(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    """Other settings do; what they polished replaces what others did."""
    copy = copied(finished[0], tmp_path / "copy")

    def polished(models: int, batch_size: int) -> set[str]:
        """Names of the models that were polished for a front."""
        polish = {"epochs": 1, "batch_size": batch_size, "teacher": None}
        overrides = [f"polish={json.dumps(polish)}", f"export.models={models}"]
        reporter = Silent()
        front = run(load_experiment(copy.experiment, overrides), copy, reporter)
        (kept,) = copy.polished.iterdir()
        names = {model.name for model in front.front}
        assert names <= {folder.name for folder in kept.iterdir()}
        trained = {line.split(":")[0] for line in reporter.told if "polished" in line}
        assert trained <= names
        return trained

    few, more, other = polished(1, 512), polished(3, 512), polished(1, 256)
    assert few == other != set()
    assert more - few == more != set()


def test_a_setting_that_the_front_does_not_know_has_its_default(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    """As after an update: nothing is trained or exported again for it, unless it is given."""
    copy = copied(finished[0], tmp_path / "copy")
    taken = json.loads(copy.front.read_text())
    default = taken["conditions"]["export"].pop("accuracy_drop")
    copy.front.write_text(json.dumps(taken))
    experiment = load_experiment(copy.experiment, [])
    assert "accuracy_drop" not in run(experiment, copy, Silent()).conditions["export"]
    assert default is None
    other = load_experiment(copy.experiment, ["export.accuracy_drop=0.1"])
    assert run(other, copy, Silent()).conditions["export"]["accuracy_drop"] == 0.1


def test_a_front_that_nothing_keeps_the_constraints_of_says_so(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    copy = copied(finished[0], tmp_path / "copy")
    experiment = load_experiment(copy.experiment, ['constraints=["accuracy >= 0.9999"]'])
    reporter = Silent()
    session = RunSession.prepare(
        experiment, copy, load_data(experiment.data, experiment.model), reporter
    )
    front = session.validate(session.ledger.evaluations())
    assert [model.role for model in front.models] == ["reference", "reference"]
    assert any("keeps the constraints (accuracy >= 0.9999)" in line for line in reporter.told)


def test_a_search_goes_on_by_what_polishing_makes_of_candidates(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    """Two are polished when the next round is proposed, and never again."""
    copy = copied(finished[0], tmp_path / "copy")
    polish = '{"epochs": 1, "batch_size": 512, "probes": 2}'
    changes = ["search.evaluations=22", f"polish={polish}", "export.models=1"]
    reporter = Silent()
    front = run(load_experiment(copy.experiment, changes), copy, reporter)
    assert front.evaluations == 24
    (told,) = [line for line in reporter.told if "after polishing, as 2 of them were" in line]
    before, after = (
        [line for line in part if "polished" in line and not line.startswith("teacher")]
        for part in (
            reporter.told[: reporter.told.index(told)],
            reporter.told[reporter.told.index(told) :],
        )
    )
    assert len(before) == 2
    assert "was expected from 1 others" in before[1]
    assert len(after) <= 1  # the one that is delivered, unless it was polished before
    again = Silent()
    run(load_experiment(copy.experiment, [*changes, "search.evaluations=24"]), copy, again)
    assert not any("judged by what they are expected" in line for line in again.told)


def test_what_is_polished_early_keeps_the_constraints_that_no_polish_changes(
    finished: tuple[RunFolder, Front], tmp_path: Path
) -> None:
    copy = copied(finished[0], tmp_path / "copy")
    measured = searched(read_evaluations(load_experiment(copy.experiment), copy))
    bound = sorted(e.metrics["size_bytes"] for e in measured)[4]
    changes = [
        "search.evaluations=32",
        'polish={"epochs": 1, "batch_size": 512, "probes": 2}',
        f'constraints=["accuracy >= int8 - 0.9", "size_bytes <= {bound}"]',
    ]
    experiment, reporter = load_experiment(copy.experiment, changes), Silent()
    run(experiment, copy, reporter)
    (told,) = [line for line in reporter.told if "after polishing, as 2 of them were" in line]
    before = reporter.told[: reporter.told.index(told)]
    early = [line.split(":")[0] for line in before if "polished" in line and line[12] == ":"]
    sizes = {e.candidate.key: e.metrics["size_bytes"] for e in read_evaluations(experiment, copy)}
    assert len(early) == 2
    assert max(sizes[key] for key in early) <= bound


@pytest.mark.parametrize("kept_back", [False, True])
def test_what_is_promised_follows_from_the_answers_that_are_kept(
    finished: tuple[RunFolder, Front], tmp_path: Path, kept_back: bool
) -> None:
    """Recomputed from outcomes/, where all answers of every model about every sample are."""
    folder, front = finished
    if not kept_back:
        folder = copied(folder, tmp_path / "copy")
        experiment = load_experiment(folder.experiment)
        data = replace(load_data(experiment.data, experiment.model), kept_back=None)
        session = RunSession.prepare(experiment, folder, data, Silent())
        front = session.validate(session.ledger.evaluations())
    answers = {m.name: read_outcomes(folder.outcomes / f"{m.name}.npz") for m in front.models}
    judged = "kept_back" if kept_back else "validation"
    for model in front.models:
        right = {
            name: {k: np.asarray(o).argmax(1) == t for k, (o, t) in answers[name].items()}
            for name in (model.name, "int8")
        }
        ours, theirs = right[model.name], right["int8"]
        assert ours["test"].mean() == model.test_score
        promise = model.promise
        assert promise is not None
        assert promise.samples == len(ours[judged]) == (119 if kept_back else 278)
        assert promise.kept_back == kept_back
        found = Comparison.of_shares(ours[judged], theirs[judged])
        assert promise.expected == promise.difference
        if kept_back:
            assert (promise.difference, promise.p) == (found.difference, found.p)
        else:
            assert promise.difference == promise.chosen_by
        test = Comparison.of_shares(ours["test"], theirs["test"])
        versus = model.versus["int8"]
        assert (versus.score_low, versus.score_high) == pytest.approx(test.interval)
    assert front.recommended == front.offers[0].model
    text = "\n".join(" ".join(cells) for cells in offer_rows(front))
    assert all(in_words(need) in text for need in NEEDS)


@pytest.fixture
def polish(finished: tuple[RunFolder, Front], tmp_path: Path) -> FineTuner:
    """What polishes candidates of a finished run."""
    copy = copied(finished[0], tmp_path / "copy")
    experiment = load_experiment(copy.experiment, [])
    data = load_data(experiment.data, experiment.model)
    session = RunSession.prepare(experiment, copy, data, Silent())
    full = measured_references(session.ledger.evaluations())["fp32"]
    settings = PolishSettings(epochs=1, batch_size=512)
    splits = data.train, data.validation
    return FineTuner(settings, session.builder, full, *splits, copy, 0, Silent())


@pytest.fixture
def chosen(finished: tuple[RunFolder, Front]) -> Evaluation:
    """The first candidate that was searched for."""
    folder = finished[0]
    return searched(read_evaluations(load_experiment(folder.experiment, []), folder))[0]


def test_a_polished_full_network_teaches_if_it_is_better(
    polish: FineTuner, chosen: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def student(teacher: TeacherSettings | None, teacher_score: float) -> Tensor:
        shutil.rmtree(polish.folder.polished, ignore_errors=True)
        told = replace(polish, settings=polish.settings.model_copy(update={"teacher": teacher}))
        reached = {chosen.candidate: 1.0}
        monkeypatch.setattr(
            FineTuner,
            "score",
            lambda _, __, candidate: Score(reached.get(candidate, teacher_score), 0.01),
        )
        told.train([chosen])
        weight = told.shipped(chosen)[0].supernet.state_dict()["head.weight"]
        assert isinstance(weight, Tensor)
        return weight

    short = TeacherSettings(epochs=1)
    tuned, worse, better = student(None, 0.0), student(short, 0.0), student(short, 1.0)
    torch.testing.assert_close(worse, tuned, rtol=0, atol=0)
    assert not torch.equal(better, tuned)
    assert not torch.equal(
        student(short.model_copy(update={"hard_label_weight": 0.0}), 1.0), better
    )


@pytest.mark.parametrize(("points", "polished"), [(0.1, True), (-1.9, True), (-2.1, False)])
def test_a_polished_network_is_shipped_unless_a_standard_error_worse(
    polish: FineTuner,
    chosen: Evaluation,
    points: float,
    polished: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = replace(chosen, metrics={**chosen.metrics, "accuracy": 0.8})
    monkeypatch.setattr(FineTuner, "score", lambda *_: Score(0.8 + points / 100, 0.02))
    polish.train([found])
    bench, accuracy = polish.shipped(found)
    assert (bench is not polish.builder) == polished
    assert accuracy == pytest.approx(0.8 + points / 100 * polished)


def test_a_network_polished_under_other_settings_is_not_taken(
    polish: FineTuner, chosen: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [0.97, 0.98]
    monkeypatch.setattr(FineTuner, "score", lambda *_: Score(given.pop(), 0.01))
    short = polish
    other = replace(short, settings=PolishSettings(epochs=1, batch_size=256))
    for told in (short, short, other, other):
        told.train([chosen])
    assert not given
    assert (short.shipped(chosen)[1], other.shipped(chosen)[1]) == (0.98, 0.97)
    trained = [p.shipped(chosen)[0].supernet.state_dict() for p in (short, other)]
    assert not torch.equal(trained[0]["head.weight"], trained[1]["head.weight"])


@pytest.mark.parametrize(
    ("key", "architecture", "precision", "told"),
    [
        ("nothing", None, "fp32", "--key nothing"),
        (None, "medium", "fp32", "--architecture medium"),
        (None, "largest", "int5", "--precision int5"),
    ],
)
def test_export_refuses_what_it_does_not_know(
    finished: tuple[RunFolder, Front],
    tmp_path: Path,
    key: str | None,
    architecture: str | None,
    precision: str,
    told: str,
) -> None:
    with pytest.raises(ValueError, match=told):
        export(finished[0], tmp_path, key, architecture, precision, Silent())


def test_a_graph_that_differs_from_the_network_is_not_exported(
    finished: tuple[RunFolder, Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No difference is small enough here, so every model fails its gate."""
    monkeypatch.setattr("nas.delivery.exporter.PARITY", -1.0)
    with pytest.raises(ExportError, match="differ from torch's by"):
        export(finished[0], tmp_path / "out", None, None, "fp32", Silent())
    assert not (tmp_path / "out").exists()


def test_one_refused_model_does_not_keep_the_others_from_being_shipped(
    finished: tuple[RunFolder, Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, front = finished
    again = copied(folder, tmp_path / "again")
    again.front.unlink()
    refused = front.front[0].candidate
    gate = Exporter.check_parity

    def refusing(self: Exporter, candidate: Candidate) -> None:
        if candidate == refused:
            raise ExportError("logits differ")
        gate(self, candidate)

    monkeypatch.setattr(Exporter, "check_parity", refusing)
    reporter = Silent()
    shipped = run(load_experiment(folder.experiment), again, reporter)
    assert [m.name for m in shipped.models] == [
        m.name for m in front.models if m.candidate != refused
    ]
    assert f"{refused.key} is not exported: logits differ" in reporter.told


def test_an_unfinished_run_has_a_report(finished: tuple[RunFolder, Front], tmp_path: Path) -> None:
    folder, _ = finished
    unfinished = copied(folder, tmp_path / "unfinished")
    unfinished.front.unlink()
    unfinished.report_markdown.unlink()
    write_report(unfinished)
    assert "not finished" in unfinished.report_markdown.read_text()


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked(), pytest.raises(RunFolderError, match="process"), folder.locked():
        pass


@pytest.mark.parametrize("key", ["../out", "/etc", "a/b", "A", ""])
def test_model_folders_stay_inside_the_run(tmp_path: Path, key: str) -> None:
    with pytest.raises(RunFolderError):
        RunFolder(tmp_path).model(key)


def test_unreachable_constraints_are_refused_before_training(
    experiment_file: Write, tmp_path: Path
) -> None:
    path = experiment_file(constraints=["size_bytes <= 1 kB"])
    reporter: Reporter = Silent()
    with pytest.raises(ValueError, match="the best the space holds"):
        run(load_experiment(path), RunFolder(tmp_path / "out"), reporter)
    assert not (tmp_path / "out").exists()


def test_a_run_whose_candidates_fail_stops_with_a_summary(
    experiment_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RuntimeScore.predictions

    def failing(meter: RuntimeScore, built: BuiltCandidate) -> Predictions:
        if any(p.name == "int4" for p in built.candidate.policy.values()):
            raise MemoryError("no room")
        return real(meter, built)

    monkeypatch.setattr(RuntimeScore, "predictions", failing)
    search = {**LITTLE["search"], "evaluations": 10, "round_size": 10}  # type: ignore[dict-item] # a dict in a dict
    path = experiment_file(**{**LITTLE, "search": search})
    folder = RunFolder(tmp_path / "out")
    with pytest.raises(SearchError, match=r"MemoryError: no room"):
        run(load_experiment(path), folder, Silent())
    monkeypatch.setattr(RuntimeScore, "predictions", real)
    assert run(load_experiment(path), folder, Silent()).evaluations > 10  # the cause is removed


def test_the_command_prints_mistakes_and_exits_2(
    experiment_file: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["simqnas", "check", str(experiment_file(seed=-1))])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "seed" in error
    assert "Traceback" not in error
