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
from scipy.spatial.distance import cosine
from scipy.stats import spearmanr
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.class_weight import compute_class_weight
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ByT5Tokenizer,
)

from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from hardware.portability.agreement import Samples
from hardware.session import open_session
from hardware.session import run as run_session
from hardware.target import Target
from nas.cost_models import ExactCosts
from nas.delivery.results import Front
from nas.dry_run import check, ignore, refuse_metrics
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.experiment.schema import Experiment
from nas.pipeline import export, run
from nas.recipe.defaults import derive
from nas.recipe.facts import Facts
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment
from nas.run_session import RunSession
from supernets.data.data import Batch, calibration_batches
from supernets.data.text import TextPreprocessor
from supernets.data.vocabulary.tokenizer import train_tokenizer
from supernets.families.bert.config import BertConfig as OurBert
from supernets.load import load_data, load_supernet
from supernets.metrics.registry import QUALITIES
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.embedder import pooling_of
from supernets.settings import DataSettings, PolishSettings, SpaceSettings, TrainSettings
from supernets.tasks.classification import Classification
from supernets.tasks.embedding import write_embedder
from supernets.tasks.predictions import Predictions
from supernets.tasks.registry import make_task
from supernets.tasks.task import UNASKED
from supernets.training.train import score
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
    "space": {"depth": [1, 2], "vocabulary": [0.7, 1.0], "precision": {"*": ["int8", "fp32"]}},
    "search": {"evaluations": 4, "round_size": 4, "strategy": "random"},
    "polish": None,
    "export": {"models": 1},
}


def sentences(n: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [list(rng.choice(WORDS, size=rng.integers(2, 7))) for _ in range(n)]


def embedding(words: list[str]) -> dict[str, Any]:
    return {"text": " ".join(words)}


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
    "embedding": Case(embedding, BertModel, (), "cosine"),
    "tokens": Case(tokens, BertForTokenClassification, ("O", "B-COL", "B-SIZE"), "entity_f1"),
}


def tokenizer(folder: Path, padding: int | None = None) -> None:
    """One that knows the words, and splits others into pieces. padding: id of that token."""
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    train_tokenizer([" ".join(WORDS)] * 3, 60, inputs, padding).save_pretrained(folder)


def checkpoint(case: Case, folder: Path) -> Any:
    """A folder as transformers saves it."""
    tokenizer(folder)
    if case.model is BertModel:
        write_embedder(folder, "mean", SIZES["hidden_size"], 16)
    given = {**SIZES, "num_labels": len(case.labels), "problem_type": case.problem_type}
    config = BertConfig(**given)
    config.id2label = dict(enumerate(case.labels))
    config.label2id = {name: number for number, name in enumerate(case.labels)}
    model = case.model(config).eval()
    model.save_pretrained(folder)
    return model


SHORT = ("tokens", "embedding")
"""Tasks whose network is no classifier of whole texts; whole runs of the others are slow tests."""
RUNS = [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in CASES]


class Done(NamedTuple):
    name: str
    case: Case
    experiment: Experiment
    folder: RunFolder
    front: Front


@pytest.fixture(scope="module", params=RUNS)
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
    values = [model.test_score for model in done.front.models]
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
    output = data.task.outputs[0]
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
        found.add(answer[output], batch.labels.numpy())
        lines = len(answer["said"].splitlines()) if done.name == "embedding" else 1
        lines = len(cells[0].split()) if done.name == "tokens" else lines
        assert len(answer["said"].splitlines()) == lines
    value = found.score(QUALITIES[done.case.metric])
    assert value == pytest.approx(model.test_score, abs=1e-6)


def test_a_smaller_vocabulary_is_shipped_as_it_was_evaluated(done: Done, tmp_path: Path) -> None:
    """Its tokenizer gives the ids that the network was asked with, and report and card tell."""
    (folder,) = export(done.folder, tmp_path, None, "smallest", "int8", Silent())
    policy = json.loads((folder / "policy.json").read_text())
    size = policy["architecture"]["vocabulary"]
    assert size == round(0.7 * SIZES["vocab_size"])
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == size
    data = load_data(done.experiment.data, done.experiment.model)
    whole, opened = map(AutoTokenizer.from_pretrained, (done.folder.model("fp32"), folder))
    samples = Samples.load(folder).inputs
    for number, given in enumerate(samples["input_ids"]):
        batch = next(data.validation.batches(1, start=number))
        cells = whole.batch_decode(split_at_separator(batch, whole))
        words = [cell.split() for cell in cells]
        ids = opened(*words, is_split_into_words=True, truncation=True)["input_ids"]
        assert ids == given[samples["attention_mask"][number] > 0].tolist()
    assert samples["input_ids"].max() < size
    told = f"vocabulary of {size} of 64 pieces, texts of another source"
    assert told in done.folder.report_markdown.read_text()
    assert told in done.folder.report_html.read_text()
    for model in done.front.models:
        card = (done.folder.model(model.name) / "README.md").read_text()
        smaller = ("vocabulary", size) in model.candidate.architecture
        assert (told.removeprefix("vocabulary of ") in card) == smaller


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
    if done.case.labels:
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


def test_the_checkpoint_itself_teaches_an_embedders_polish(done: Done) -> None:
    experiment = read_experiment(done.folder).model_copy(update={"polish": PolishSettings()})
    data = load_data(experiment.data, experiment.model, experiment.task)
    session = RunSession.prepare(experiment, done.folder, data, Silent())
    polish = session.fine_tuner()
    assert polish is not None
    start = load_supernet(experiment.model, data, experiment.seed).network
    expected = start if done.name == "embedding" else session.builder.supernet
    inputs = next(iter(data.test.batches(8))).inputs
    assert torch.equal(polish.teacher(1)(**inputs), expected(**inputs))
    assert not torch.equal(start(**inputs), session.builder.supernet(**inputs))


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
        ("multi-label", PLAIN, "holds no lists in the train split; task multi-label"),
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


def test_tags_need_a_tokenizer_that_tells_words_apart(tmp_path: Path) -> None:
    model = BertForTokenClassification(BertConfig(**{**SIZES, "vocab_size": 400}))
    model.save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, TAGGED)))
    settings = ModelSettings(checkpoint=str(tmp_path))
    with pytest.raises(ValueError, match=r"^task: tokens, but .*ByT5Tokenizer.* a fast one") as e:
        load_data(DataSettings(name=str(tmp_path / "data.jsonl")), settings)
    assert "\n" not in str(e.value)


def test_a_metric_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spearman does not fit task classification"):
        refuse_metrics(stated(metric="spearman"), Classification("ab"))
    with pytest.raises(ValueError, match="map does not fit"):
        refuse_metrics(stated(constraints=["map >= 0.3"]), Classification("ab"))
    refuse_metrics(stated(metric="auc"), Classification("ab"))
    with pytest.raises(ValueError, match=r"'spearmen' says nothing.* are spearman, "):
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


def embedder(folder: Path, pooling: str = "mean") -> BertModel:
    """A checkpoint as sentence-transformers saves it, pooler included."""
    model = checkpoint(CASES["embedding"], folder)
    write_embedder(folder, pooling, SIZES["hidden_size"], 16)
    assert isinstance(model, BertModel)
    return model


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("depth", [1, 2])
def test_an_embedders_graph_gives_vectors_and_the_tokens_they_are_pooled_of(
    pooling: str, depth: int, tmp_path: Path
) -> None:
    """Depth 2 is the checkpoint, whose vectors transformers' own model gives."""
    model = embedder(tmp_path, pooling)
    rows = [json.dumps(embedding(words)) for words in sentences(60)]
    (tmp_path / "data.jsonl").write_text("\n".join(rows))
    settings = ModelSettings(checkpoint=str(tmp_path))
    data = load_data(DataSettings(name=str(tmp_path / "data.jsonl")), settings)
    assert data.task.metrics == ("cosine",)
    network = load_supernet(settings, data, 0).network
    space = network.space(SpaceSettings(depth=(1, 2)))
    template = template_of(network, space)
    calibration = calibration_batches(data.train, samples=8)
    builder = CandidateBuilder(network, space, template, QuantScheme(), calibration)
    genome = space.largest() if depth == 2 else space.smallest()
    candidate = builder.uniform(genome, FP32)
    session = open_session(builder.build(candidate).content, Target())
    batch = next(data.test.batches(6))
    inputs = builder.inputs(candidate, batch.inputs)
    vectors, tokens = run_session(session, inputs)
    mask = inputs["attention_mask"].astype(np.float32)[:, :, None]
    pooled = (tokens * mask).sum(1) / mask.sum(1) if pooling == "mean" else tokens[:, 0]
    at_one = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, at_one, atol=1e-5)
    with torch.inference_mode():
        ours = builder.network(candidate)(**batch.inputs)
        theirs = model(**batch.inputs).last_hidden_state
    np.testing.assert_allclose(vectors, ours.numpy(), atol=1e-4)
    if depth == 2:
        read = theirs if pooling == "mean" else theirs[:, :1]
        np.testing.assert_allclose(tokens, read.numpy(), atol=1e-4)
        found = Predictions(data.task)
        found.add(vectors, batch.labels.numpy())
        assert found.score(QUALITIES["cosine"]) == pytest.approx(1, abs=1e-5)
    exact, size = ExactCosts(builder), builder.model(candidate).ByteSize()
    bytes_a_dropped_block = 32
    away = exact.size_bytes(candidate.genome(space)[None])[0] - size
    assert abs(away) <= bytes_a_dropped_block * (2 - depth)


@pytest.mark.parametrize(
    ("rows", "metric"),
    [
        (
            [{"text": f"{word} {n}", "label": word} for n in range(9) for word in WORDS],
            "neighbour_accuracy",
        ),
        ([regression(words) for words in sentences(60)], "sts_spearman"),
    ],
)
def test_what_is_known_of_texts_tells_what_embeddings_are_scored_by(
    rows: list[dict[str, Any]], metric: str, tmp_path: Path
) -> None:
    embedder(tmp_path)
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = ModelSettings(checkpoint=str(tmp_path))
    data = load_data(DataSettings(name=str(tmp_path / "data.jsonl")), settings, "embedding")
    assert data.task.metrics == (metric,)
    network = load_supernet(settings, data, 0).network
    assert -1 <= score(network, data.test, QUALITIES[metric]) <= 1
    if metric == "sts_spearman":
        account = data.source.account.splits["test"]
        assert len(data.test) == 2 * account.used


def test_vectors_are_compared_as_scipy_and_scikit_learn_do() -> None:
    rng = np.random.default_rng(0)
    vectors, classes = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    nearest = KNeighborsClassifier(2, metric="cosine").fit(vectors, classes)
    neighbours = nearest.kneighbors(vectors, return_distance=False)[:, 1]
    expected = (classes[neighbours] == classes).mean()
    metric = QUALITIES["neighbour_accuracy"]
    assert metric.score(vectors, classes, ()) == pytest.approx(expected)
    assert metric.right is not None
    assert (metric.right(vectors, classes) == (classes[neighbours] == classes)).all()
    scores = rng.normal(size=30)
    cosines = [1 - cosine(a, b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    expected = spearmanr(cosines, scores).statistic
    given = QUALITIES["sts_spearman"].score(vectors, scores.repeat(2), ())
    assert given == pytest.approx(expected)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"pooling_mode_max_tokens": True}, "asks for pooling 'max'; served are "),
        ({"pooling_mode": "lasttoken"}, "asks for pooling 'lasttoken'"),
        ({"pooling_mode": ["cls", "mean"]}, "asks for pooling 'cls.mean'"),
        ({"pooling_mode": "cls"}, ""),
    ],
)
def test_a_pooling_that_is_not_served_is_told_in_one_line(
    config: dict[str, Any], told: str, tmp_path: Path
) -> None:
    embedder(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    found = open_checkpoint(str(tmp_path))
    if not told:
        assert pooling_of(found) == "cls"
        return
    with pytest.raises(ValueError, match=told) as caught:
        pooling_of(found)
    assert "\n" not in str(caught.value)


def test_an_embedder_needs_no_polished_teacher(tmp_path: Path) -> None:
    embedder(tmp_path)
    settings = ModelSettings(checkpoint=str(tmp_path))
    rows = [embedding(words) for words in sentences(20)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_data(DataSettings(name=str(tmp_path / "data.jsonl")), settings, "embedding")
    stated = {"name": "x", "model": settings, "data": {"name": "x"}, "metric": "cosine"}
    objectives = {"objectives": ["cosine"], "polish": {"teacher": {}}}
    with pytest.raises(ValueError, match=r"polish\.teacher: .* the checkpoint itself teaches"):
        check(Experiment.model_validate({**stated, **objectives}), data, None, tell=ignore)
    experiment = Experiment.model_validate({**stated, "objectives": ["cosine"]})
    derived = derive(experiment, Facts.of(experiment, data)).experiment
    assert derived.polish is not None
    assert derived.polish.teacher is None
    assert derived.polish.probes == 2


def test_an_embedder_learns_from_a_checkpoint_alone(tmp_path: Path) -> None:
    told = refused(tmp_path, [embedding(words) for words in sentences(20)], task="embedding")
    assert "task: embedding learns from a checkpoint's own vectors" in told
