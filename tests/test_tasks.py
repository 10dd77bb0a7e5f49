"""Every task end to end: data, head of a checkpoint, training, search, export, and the model card's
code, which must answer as the table says."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from nas.delivery.results import Front
from nas.dry_run import refuse_metrics
from nas.experiment.schema import Experiment
from nas.pipeline import run
from nas.run.run_folder import RunFolder
from supernets.data.data import Batch
from supernets.data.text import TextPreprocessor, train_tokenizer
from supernets.families.bert.config import BertConfig as OurBert
from supernets.load import load_data, load_supernet
from supernets.metrics.registry import QUALITIES
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, TrainSettings
from supernets.tasks.classification import Classification
from supernets.tasks.predictions import Predictions
from supernets.tasks.registry import make_task
from supernets.tasks.task import UNASKED
from tests.test_pipeline import Silent

MODELS: dict[str, Any] = {
    "Token": AutoModelForTokenClassification,
    "Sequence": AutoModelForSequenceClassification,
}
SMALL = ModelSettings.from_scratch(OurBert(embed_dim=8, num_heads=1))
WORDS = ["red", "green", "blue", "wide", "high", "low"]
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
}
OTHER_SIZES: dict[str, Any] = {"pad_token_id": 0, "type_vocab_size": 2, "embedding_size": 8}
DISTILLED: dict[str, Any] = {
    "vocab_size": 64,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 24,
    "max_position_embeddings": 16,
}
SETTINGS: dict[str, Any] = {
    "tune": {"epochs": 3, "batch_size": 32, "learning_rate": 0.003, "class_weights": "balanced"},
    "space": {"depth": [1, 2], "precision": {"*": ["int8", "fp32"]}},
    "search": {"evaluations": 4, "round_size": 4, "strategy": "random"},
    "polish": None,
    "export": {"models": 1},
}


def sentences(n: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [list(rng.choice(WORDS, size=rng.integers(2, 7))) for _ in range(n)]


def multi_label(words: list[str]) -> dict[str, Any]:
    return {"text": " ".join(words), "labels": sorted({"red", "wide"} & set(words))}


def regression(words: list[str]) -> dict[str, Any]:
    first, second = words[:1], words[1:]
    score = words.count("red") / len(words) + 0.01 * len(words)
    return {"sentence1": " ".join(first), "sentence2": " ".join(second), "score": score}


def tokens(words: list[str]) -> dict[str, Any]:
    marks = {"red": "B-COL", "green": "B-COL", "wide": "B-SIZE"}
    return {"tokens": words, "tags": [marks.get(word, "O") for word in words]}


class Case(NamedTuple):
    row: Callable[[list[str]], dict[str, Any]]
    model: Callable[[BertConfig], Any]
    labels: tuple[str, ...]
    metric: str
    problem_type: Any = None


CASES: dict[str, Case] = {
    "multi-label": Case(
        multi_label,
        BertForSequenceClassification,
        ("red", "wide"),
        "f1",
        "multi_label_classification",
    ),
    "regression": Case(
        regression, BertForSequenceClassification, ("LABEL_0",), "spearman", "regression"
    ),
    "tokens": Case(tokens, BertForTokenClassification, ("O", "B-COL", "B-SIZE"), "entity_f1"),
}


def tokenizer(folder: Path, padding: int | None = None) -> None:
    """One that knows the words, and splits others into pieces. padding: id of that token."""
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    train_tokenizer([" ".join(WORDS)] * 3, 60, inputs, padding).save_pretrained(folder)


def checkpoint(case: Case, folder: Path) -> Any:
    """A folder as transformers saves it."""
    tokenizer(folder)
    given = {**SIZES, "num_labels": len(case.labels), "problem_type": case.problem_type}
    config = BertConfig(**given)
    config.id2label = dict(enumerate(case.labels))
    config.label2id = {name: number for number, name in enumerate(case.labels)}
    model = case.model(config).eval()
    model.save_pretrained(folder)
    return model


class Done(NamedTuple):
    name: str
    case: Case
    experiment: Experiment
    folder: RunFolder
    front: Front


@pytest.fixture(scope="module", params=list(CASES))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    name = request.param
    case, place = CASES[name], tmp_path_factory.mktemp("task")
    checkpoint(case, place / "model")
    lines = [json.dumps(case.row(words)) for words in sentences(150)]
    (place / "data.jsonl").write_text("\n".join(lines))
    stated = {
        "name": "task",
        "model": {"checkpoint": str(place / "model")},
        "data": {"name": str(place / "data.jsonl"), "holdout": 0.2},
        **SETTINGS,
    }
    experiment = Experiment.model_validate(stated)
    folder = RunFolder(place / "run")
    return Done(name, case, experiment, folder, run(experiment, folder, Silent()))


def test_the_task_is_told_and_its_metric_is_what_models_are_judged_by(done: Done) -> None:
    kept = json.loads((done.folder.path / "front.json").read_text())
    assert kept["metric"] == done.front.metric == done.case.metric
    text = done.folder.experiment.read_text()
    assert f"task: {done.name}" in text
    assert f"metric: {done.case.metric}" in text
    report = done.folder.report_markdown.read_text()
    assert f"test {QUALITIES[done.case.metric].title}" in report
    values = [model.test_accuracy for model in done.front.models]
    assert all(value is not None and np.isfinite(value) for value in values)


def ask(code: str, folder: Path, old: str, new: str) -> dict[str, Any]:
    """What the card's code leaves in its variables, for another sample; its print under `said`."""
    assert old in code
    names: dict[str, Any] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as said:
        exec(code.replace(old, new), names)  # noqa: S102 # as users do
    return {**names, "said": said.getvalue()}


def test_the_cards_code_answers_as_the_table_says(done: Done) -> None:
    """Its outputs for every sample of the test split, scored, are the model's test score."""
    data = load_data(done.experiment.data, done.experiment.model)
    tokenizer = AutoTokenizer.from_pretrained(done.folder.model("fp32"))
    model = next(model for model in done.front.models if model.name == "fp32")
    folder = done.folder.model(model.name)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    found = Predictions(data.task)
    for number in range(len(data.test)):
        batch = next(data.test.batches(1, start=number))
        cells = tokenizer.batch_decode(split_at_separator(batch, tokenizer))
        if done.name == "regression":
            old, new = '"the first text", "the second text"', ", ".join(map(repr, cells))
        elif done.name == "tokens":
            old, new = '"the words to tag"', repr(cells[0])
        else:
            old, new = '"the sentence to look at"', repr(cells[0])
        answer = ask(code, folder, old, new)
        found.add(answer["logits"], batch.labels.numpy())
        assert len(answer["said"].splitlines()) == (
            len(cells[0].split()) if done.name == "tokens" else 1
        )
    value = found.score(QUALITIES[done.case.metric])
    assert value == pytest.approx(model.test_accuracy, abs=1e-6)


def split_at_separator(batch: Batch, tokenizer: Any) -> list[list[int]]:
    """The ids of each text of a sample, without special tokens."""
    texts: list[list[int]] = [[]]
    ids = batch.inputs["input_ids"][0].tolist()
    for number in ids[1:-1]:
        if number == tokenizer.sep_token_id:
            texts.append([])
        else:
            texts[-1].append(number)
    return texts


def test_transformers_reads_the_shipped_config(done: Done) -> None:
    config = AutoConfig.from_pretrained(done.folder.model("fp32"))
    wanted = done.case.model.__name__
    assert config.architectures == [wanted]
    assert config.num_labels == len(done.case.labels)
    assert config.problem_type == done.case.problem_type


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "roberta", "electra", "mpnet", "modernbert"]
)
@pytest.mark.parametrize("task", ["tokens", "regression"])
def test_the_full_network_computes_what_the_checkpoint_does(
    family: str, task: str, tmp_path: Path
) -> None:
    """The head of a checkpoint is kept, with its tags in the data's order."""
    case = CASES[task]
    sizes = {**OTHER_SIZES, **(DISTILLED if family == "distilbert" else SIZES)}
    if family in ("roberta", "mpnet"):
        sizes |= {"pad_token_id": 1, "max_position_embeddings": 18}
    config = AutoConfig.for_model(family, **sizes)
    config.num_labels, config.problem_type = len(case.labels), case.problem_type
    config.id2label = dict(enumerate(reversed(case.labels)))
    model = MODELS["Token" if task == "tokens" else "Sequence"].from_config(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer(tmp_path, 1 if family in ("roberta", "mpnet") else None)
    lines = [json.dumps(case.row(words)) for words in sentences(40)]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    settings = ModelSettings(checkpoint=str(tmp_path))
    data = load_data(DataSettings(name=str(tmp_path / "data.jsonl")), settings)
    assert data.task.name == task
    network = load_supernet(settings, data, 0).network
    batch = next(data.train.batches(8))
    with torch.inference_mode():
        theirs, ours = model(**batch.inputs).logits, network(**batch.inputs)
    if task == "tokens":
        theirs = theirs[..., [case.labels[::-1].index(name) for name in data.label_names]]
        theirs, ours = (data.task.rows(x, batch.labels) for x in (theirs, ours))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_tags_stand_at_the_first_piece_of_their_word(tmp_path: Path) -> None:
    (tmp_path / "data.conll").write_text(
        "-DOCSTART- O\n\nred B-COL\nhighest O\n\nwide B-SIZE\n" * 9
    )
    sizes = OurBert(vocab_size=40, max_positions=16, embed_dim=8, num_heads=1, hidden_dim=8)
    settings = ModelSettings.from_scratch(sizes)
    data = load_data(DataSettings(name=str(tmp_path / "data.conll"), holdout=0.2), settings)
    assert (data.task.name, data.label_names) == ("tokens", ("O", "B-COL", "B-SIZE"))
    preprocessor = data.preprocessor
    assert isinstance(preprocessor, TextPreprocessor)
    (ids,), (tags,) = preprocessor.encode_words([["red", "redhighest"]], [[1, 0]])
    pieces = preprocessor.tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert len(pieces) > 4
    words = [n for n, piece in enumerate(pieces) if piece[0] not in "[#"]
    assert len(words) == 2
    assert [int(tags[n]) for n in words] == [1, 0]
    assert (np.delete(tags.numpy(), words) == UNASKED).all()


def refused(tmp_path: Path, rows: list[dict[str, Any]], **stated: Any) -> str:
    """What `load_data` says of such data; one line."""
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = stated.pop("task", None)
    with pytest.raises(ValueError, match=r"^(task|data)\b") as caught:
        load_data(DataSettings(name=str(tmp_path / "data.jsonl"), **stated), SMALL, task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PLAIN = [{"text": f"red {i}", "label": "yn"[i % 2]} for i in range(20)]
TAGGED = [tokens(words) for words in sentences(20)]


@pytest.mark.parametrize(
    ("task", "rows", "told"),
    [
        ("tokens", PLAIN, "fitting: none"),
        ("regression", PLAIN, "which is no number"),
        ("multi-label", PLAIN, "holds no lists of labels"),
        ("pairs", PLAIN, "names no second text"),
        ("tokens", [*TAGGED, {"tokens": ["red", "high"], "tags": ["O"]}], "2 words.*but 1 tags"),
        ("classification", TAGGED, "fitting: none"),
    ],
)
def test_a_task_that_the_data_does_not_fit_is_told_in_one_line(
    task: str, rows: list[dict[str, Any]], told: str, tmp_path: Path
) -> None:
    assert re.search(told, refused(tmp_path, rows, task=task))


def test_a_column_for_each_label_holds_0_or_1(tmp_path: Path) -> None:
    rows = [{"text": f"red {i}", "a": i % 2, "b": int(i % 3 == 0)} for i in range(30)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = DataSettings(name=str(tmp_path / "data.jsonl"), label_column=("a", "b"))
    data = load_data(settings, SMALL)
    assert (data.task.name, data.label_names) == ("multi-label", ("a", "b"))
    account = data.source.account
    assert sum(split.classes["a"] for split in account.splits.values()) == 15
    assert sum(split.classes["b"] for split in account.splits.values()) == 10
    assert sum(split.used for split in account.splits.values()) == 30
    rows[3]["a"] = 7
    told = refused(tmp_path, rows, label_column=("a", "b"))
    assert "'a' holds 7, but a column for one of several labels must hold 0 or 1" in told


def test_a_metric_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spearman does not fit task classification"):
        refuse_metrics(stated(metric="spearman"), Classification("ab"))
    with pytest.raises(ValueError, match="map does not fit"):
        refuse_metrics(stated(constraints=["map >= 0.3"]), Classification("ab"))
    refuse_metrics(stated(metric="auc"), Classification("ab"))
    with pytest.raises(ValueError, match=r"'spearmen' says nothing.*\['spearman'"):
        stated(metric="spearmen")
    with pytest.raises(ValueError, match="no task is called 'token'; there are tokens"):
        stated(task="token")


def stated(**given: Any) -> Experiment:
    sample = {"name": "x", "model": {"vit": {}}, "data": {"name": "digits"}}
    return Experiment.model_validate({**sample, **given})


def test_a_loader_of_the_users_own_gives_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_rows")
    asked: list[str] = []

    def load(name: str) -> dict[str, list[dict[str, Any]]]:
        asked.append(name)
        return {"train": PLAIN, "test": PLAIN[:4]}

    module.load, module.wrong = load, lambda name: [1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_rows", module)
    model = SMALL
    data = load_data(DataSettings(name="mine", loader="my_rows:load"), model)
    assert asked == ["mine"]
    assert (data.label_names, len(data.train) + len(data.validation)) == (("n", "y"), 20)
    with pytest.raises(ValueError, match="returned list; it must return splits by name"):
        load_data(DataSettings(name="mine", loader="my_rows:wrong"), model)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_balanced_losses_count_rare_classes_alike(weights: str) -> None:
    """PyTorch's weighted mean with inverse frequencies as scikit-learn's `balanced`."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    logits = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    settings = TrainSettings(class_weights=weights, label_smoothing=0)
    loss = Classification("ab").loss(settings, labels, 2)(logits, labels)
    own = compute_class_weight("balanced", classes=np.arange(2), y=labels.numpy())
    given = None if weights == "none" else torch.tensor(own, dtype=torch.float32)
    expected = torch.nn.functional.cross_entropy(logits, labels, weight=given)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("task", ["multi-label", "regression", "tokens"])
def test_a_student_like_its_teacher_has_nothing_to_learn(task: str) -> None:
    asked = make_task(task, ("a", "b"))
    generator = torch.Generator().manual_seed(0)
    teacher, other = torch.randn(2, 6, 2, generator=generator)
    assert asked.distillation(teacher, teacher, 2.0) == pytest.approx(0, abs=1e-6)
    assert asked.distillation(other, teacher, 2.0) > 0.01
