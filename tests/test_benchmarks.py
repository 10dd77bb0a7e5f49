"""Every benchmark runs, on toys of a few seconds' work, and says what it is meant to say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from datasets import Dataset
from rich.console import Console
from sklearn.neighbors import KNeighborsClassifier
from transformers import ViTConfig, ViTModel

from benchmarks import (
    attention_forms,
    embedder,
    enumerate_digits,
    few_bits_search,
    headline,
    headline_table,
    ledger,
    low_precision,
    next_polish,
    plain_first,
    portability,
    promises,
    recipes,
    search,
    surfaces,
    tuning_cost,
    whole_sentences,
)
from nas.delivery.results import read_front
from nas.run.progress import rich_reporter
from nas.run.run_folder import RunFolder, read_json
from supernets.families.bert.config import BertConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.network import ResNetSuperNetwork
from supernets.families.vit.config import VitConfig
from supernets.load import load_data
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings
from supernets.space.space import Gene, SearchSpace
from tests.conftest import FEW
from tests.test_tasks import CASES, checkpoint, sentences

Run = Callable[..., str]
README = headline_table.README.read_text(encoding="utf-8")
TOY_VIT = VitConfig(
    image_size=16, patch_size=8, channels=3, embed_dim=32, depth=1, num_heads=4, hidden_dim=64
)
TOY_BERT = BertConfig(
    vocab_size=128, max_positions=128, embed_dim=48, depth=1, num_heads=12, hidden_dim=96
)
TOY_RESNET = ResNetConfig(
    image_size=32, depths=(1, 1), stage_widths=(16, 32), inner_widths=(16, 32), stem_width=8
)
TOY: dict[str, Any] = {
    "name": "toy",
    "model": {
        "vit": TOY_VIT.model_dump(mode="json"),
        "training": {"epochs": 1, "batch_size": 250},
    },
    "data": FEW,
    "space": {
        "depth": [1],
        "num_heads": [4],
        "hidden_dim": [32, 64],
        "precision": {"*": ["int8"], "*.fc1": ["int8", "fp32"]},
    },
    "tune": {"epochs": 1, "batch_size": 250},
    "search": {"evaluations": 4, "round_size": 2},
    "constraints": ["accuracy >= int8 - 0.5"],
    "export": {"models": 2},
}
"""Four candidates."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call a benchmark's command line; gives what it prints."""

    def call(main: Callable[[], None], *arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["benchmark", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of low_precision.py at sizes that take milliseconds."""
    monkeypatch.setattr(low_precision, "VIT_B16", TOY_VIT)
    monkeypatch.setattr(low_precision, "BERT_BASE", TOY_BERT)
    monkeypatch.setattr(low_precision, "MINI_LM", TOY_BERT)
    monkeypatch.setattr(low_precision, "RESNET_50", TOY_RESNET)
    monkeypatch.setattr(low_precision, "WIDTHS", (32, 64))


def megabytes(printed: str) -> dict[str, float]:
    """Model -> last column of a printed table, where it is a number."""
    rows = [line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│")]
    return {row[0].strip(): float(row[-1]) for row in rows if row[-1].strip()}


@pytest.mark.usefixtures("toys")
def test_linears_are_stored_in_the_order_of_their_bits(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(low_precision, "CONSOLE", Console(width=200))
    printed = run(low_precision.main, "linears", "--repeats", 3)
    sizes = megabytes(printed)
    assert (
        sizes["int2, groups of 64"]
        <= sizes["int2"]
        <= sizes["int4 (w4a8)"]
        <= sizes["int8"]
        <= sizes["fp32"]
    )
    errors = dict(re.findall(r"relative weight error, (.*): (0\.\d+)", printed))
    ours, theirs = "MatMulNBits (by squared error)", "MatMulNBits (onnxruntime)"
    assert 0 < float(errors[ours]) <= float(errors[theirs]) < 0.2


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("command", "models"),
    [
        ("resnet50", {"int8", "int2", "int2, groups of 64", "int3", "int4", "fp32"}),
        ("vit", {"quantize_dynamic", "ours, int8", "ours, int4", "ours, fp32"}),
        ("bert", {"quantize_dynamic", "ours, int8", "ours, int4", "ours, fp32"}),
        pytest.param("last_block", {"whole", "narrowed"}, marks=pytest.mark.slow),
    ],
)
def test_models_are_compared(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, models: set[str]
) -> None:
    monkeypatch.setattr(low_precision, "CONSOLE", Console(width=200))
    assert set(megabytes(run(low_precision.main, command, "--repeats", 3))) == models


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_building_is_timed_for_every_precision(run: Run) -> None:
    printed = run(low_precision.main, "materialize")
    found = re.findall(r"materialize and write, (\w+): \d", printed)
    assert found == ["int8", "int4", "mixed", "mixed"]
    assert "export and quantize_dynamic: " in printed


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_memory_is_read_for_every_precision(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes it starts are calls here: their imports would take longer than they do."""
    printed = []

    def call(command: list[str], check: bool) -> None:
        assert check
        printed.append(run(low_precision.main, *command[2:]))

    monkeypatch.setattr("benchmarks.low_precision.subprocess.run", call)
    run(low_precision.main, "memory")
    assert [line.split(":")[0] for line in printed] == ["int8", "int4", "fp32"]
    assert all("x the FP32 weights" in line for line in printed)


def test_steps_of_training_are_compared_and_the_limit_holds(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"toy": ("digits", ModelSettings.from_scratch(TOY_VIT))}
    for name, value in (("MODELS", models), ("STEPS", 2), ("WARMUP", 1), ("LIMIT", math.inf)):
        monkeypatch.setattr(tuning_cost, name, value)
    row = run(tuning_cost.tune).splitlines()[-1]
    assert re.fullmatch(r"\| toy \| [\d.]+ ms \| [\d.]+ ms \| [\d.]+ \| [\d.]+ \|", row)
    monkeypatch.setattr(tuning_cost, "LIMIT", 0)
    with pytest.raises(SystemExit, match=r"an InstaTune epoch costs .* over 0"):
        tuning_cost.tune()


def test_polishing_steps_are_timed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"embed_dim": 48, "depth": 3, "hidden_dim": 384}
    small = low_precision.MINI_LM.model_copy(update=sizes)
    for module, name, value in (
        (low_precision, "MINI_LM", small),
        (tuning_cost, "STEPS", 2),
        (tuning_cost, "WARMUP", 1),
    ):
        monkeypatch.setattr(module, name, value)
    printed = run(tuning_cost.COMMANDS["_returned"])
    assert re.fullmatch(r"\d+ ms of processor time, \d+ MB\n", printed)


def test_plain_steps_before_the_tuning_are_weighed(run: Run, tmp_path: Path) -> None:
    sizes = ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
    )
    ViTModel(sizes).save_pretrained(tmp_path)
    scaled = {
        "image_processor_type": "ViTImageProcessor",
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(scaled))
    arguments = (tmp_path, "digits", "--train", 64, "--split", "0:1", "2:1:frozen")
    rows = run(plain_first.main, *arguments).splitlines()[2:]
    percent = r"\d+\.\d % \| "
    for row, begins in zip(rows, (r"0 \| 1 \| no", r"2 \| 1 \| yes"), strict=True):
        assert re.fullmatch(rf"\| {begins} \| ({percent}){{4}}\d+ \|", row), row


def test_the_ledger_loses_nothing(run: Run) -> None:
    arguments = ("--workers", 1, "--evaluations", 4, "--round-size", 2, "--wait", 0)
    assert run(ledger.main, *arguments).startswith("4 evaluations, 1 workers: ")


def test_an_enumerated_space_is_a_surface_with_its_true_front(tmp_path: Path) -> None:
    path, table = tmp_path / "toy.yaml", tmp_path / "toy.npz"
    path.write_text(yaml.safe_dump(TOY))
    with rich_reporter(Console(quiet=True)) as reporter:
        arguments = (tmp_path / "run", -math.inf, table, reporter)
        assert not enumerate_digits.enumerate_digits(*arguments), "no time, nothing written"
        arguments = (tmp_path / "run", math.inf, table, reporter)
        assert enumerate_digits.enumerate_digits(*arguments)
    with np.load(table) as stored:
        values = {tuple(g): v for g, v in zip(stored["genomes"], stored["values"], strict=True)}
    assert len(values) == 4
    surface = surfaces.digits_small(table)
    genomes = np.array([list(genome) for genome in values])
    costs = surface.problem.costs(surface.truth(genomes))
    known = np.array([[-v[0], v[2]] for v in values.values()])
    np.testing.assert_allclose(costs, known)
    best = [row for row in known if not ((known <= row).all(1) & (known < row).any(1)).any()]
    np.testing.assert_allclose(np.unique(surface.front, axis=0), np.unique(best, axis=0))


def test_nas_bench_macro_gives_each_network_its_own_row(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {
        "".join(key): {"mean_acc": float(runs.mean()), "test_acc": runs.tolist(), "flops": number}
        for number, key in enumerate(product("012", repeat=8))
        for runs in [rng.uniform(60, 95, 3)]
    }
    path = tmp_path / "macro.json"
    path.write_text(json.dumps(rows))
    surface = surfaces.nas_bench_macro(path)
    genome = np.array([[2, 0, 1, 1, 0, 2, 1, 0]])
    row = rows["20110210"]
    np.testing.assert_allclose(surface.truth(genome), [[row["mean_acc"] / 100, row["flops"]]])
    measured = surface.measure(genome, np.random.default_rng(1))[0, 0] * 100
    assert np.isclose(measured, row["test_acc"]).any()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search's budgets, methods and targets at a size of seconds."""
    little = {"round_size": 5, "population": 10, "generations": 3}
    methods = {"random": {"strategy": "random"}, "ours": {"strategy": "linas", **little}}
    targets = (search.Target("synthetic", "accuracy", 20, 0.8),)
    for name, value in (("BUDGETS", (5, 10)), ("METHODS", methods), ("TARGETS", targets)):
        monkeypatch.setattr(search, name, value)


@pytest.mark.usefixtures("quick")
def test_searches_are_stored_and_their_table_is_read_from_there(run: Run, tmp_path: Path) -> None:
    arguments = ("--cache", tmp_path, "--surface", "digits", "--seeds", 2)
    lines = run(search.main, "run", *arguments).splitlines()
    assert lines[0].startswith("nas-bench-macro is left out")
    assert [line.split()[1] for line in lines[1:]] == ["random", "ours"] * 2
    assert len(run(search.main, "run", *arguments).splitlines()) == 1, "all is stored"
    rows = run(search.main, "table", *arguments).splitlines()
    assert "**digits**" in rows
    assert [row.split("|")[1].strip() for row in rows[-2:]] == ["random", "ours"]
    shares = [float(cell.split("(")[0]) for cell in rows[-1].split("|")[3:5]]
    assert 0 < shares[0] <= shares[1] <= 100


@pytest.mark.usefixtures("quick")
def test_predictors_are_judged_on_unseen_candidates(run: Run) -> None:
    row = run(search.main, "predictors", "--seeds", 1, "--surface", "synthetic").splitlines()[-1]
    assert re.match(r"\| synthetic \| accuracy \| 20 \| -?0\.\d+ \(", row)
    assert search.speed(20, 10, 3).startswith("30 predicted evaluations, 20 measured: ")


def test_an_unknown_surface_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(search.main, "run", "--surface", "nas-bench-macro")
    assert "must be of digits, synthetic" in capsys.readouterr().err


def test_no_phrase_of_a_held_out_sentence_is_trained_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    sentences = [f"a{i} film that never bores anybody b{i}" for i in range(12)]
    texts = [part for text in sentences for part in (text, text[:-3], text.split(" ", 2)[2])]
    (tmp_path / "data").mkdir()
    for name, rows in (("train", texts), ("validation", ["what a day"])):
        lines = ["sentence,label", *(f"{text},{i % 2}" for i, text in enumerate(rows))]
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    run(whole_sentences.main, "--data", tmp_path / "data", "--out", out, "--held-out", 3)
    train, held, test = (
        Dataset.from_parquet(str(out / f"{name}.parquet"), cache_dir=str(tmp_path / "cache"))
        for name in ("train", "validation", "test")
    )
    assert len(held) == 3
    assert set(held["sentence"]) < set(sentences)
    assert not any(
        f" {text} " in f" {whole} " for text in train["sentence"] for whole in held["sentence"]
    )
    assert set(sentences) - set(held["sentence"]) < set(train["sentence"])
    assert test["sentence"][:] == ["what a day"]


@pytest.mark.slow
def test_the_headline_is_measured_and_tabled(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, page = tmp_path / "tasks", tmp_path / "README.md"
    (tasks / "results").mkdir(parents=True)
    toy = {**TOY, "objectives": ["accuracy", "size_bytes"]}
    (tasks / "toy.yaml").write_text(yaml.safe_dump(toy))
    page.write_text(f"above\n{headline_table.BEGIN}\nold\n{headline_table.END}\nbelow\n")
    for name, value in (
        ("TASKS", tasks),
        ("RESULTS", tasks / "results"),
        ("LATENCY_REPEATS", 6),
        ("STRATEGY_EVALUATIONS", 4),
    ):
        monkeypatch.setattr(headline, name, value)
    monkeypatch.setattr(headline_table, "README", page)
    arguments = ("toy", "--data", "digits", "--out", tmp_path / "out", "--seeds", 0, "--strategies")
    run(headline.main, "run", *arguments)
    result = json.loads((tmp_path / "out" / "toy" / "seed-0" / "result.json").read_text())
    rows = {row["name"]: row for row in result["models"]}
    assert {"fp32", "int8", "ours fp32", "ours int8"} < set(rows)
    assert rows["int8"]["faster"][0] == rows["int8"]["smaller"] == 1
    assert 0 < result["strategies"]["joint"] <= 1
    assert all(0 <= share <= 1 for share in result["strategies"].values())
    run(headline.main, "table", "--out", tmp_path / "out")
    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert "| toy |" in text
    assert (tasks / "toy.svg").exists()
    monkeypatch.setattr(few_bits_search, "DROP", 1.0)
    monkeypatch.setattr(few_bits_search, "OBJECTIVES", ("accuracy", "size_bytes"))
    finished = tmp_path / "out" / "toy" / "seed-0" / "run"
    few = (finished, "--out", tmp_path / "few", "--seeds", 0, "--evaluations", 4, "--foreseen")
    table = run(few_bits_search.main, *few)
    *_, shares = [line for line in table.splitlines() if line.startswith("| run | 0 |")]
    found = [float(cell) for cell in shares.split("|")[3:5]]
    assert 0 < max(found) <= 1
    polished = run(next_polish.main, finished, "--models", 1, 2, "--draws", 5)
    one, two = (line.split("|") for line in polished.splitlines()[-2:])
    assert [row[1:3] for row in (one, two)] == [[" run ", " 1 "], [" run ", " 2 "]]
    for row in (one, two):  # no need is met more slowly than a stricter one
        speeds = [float(cell.strip().removesuffix("x")) for cell in row[3:6]]
        assert speeds == sorted(speeds)


def test_two_and_three_bits_join_eight_alone() -> None:
    genes = [("a", ("int8",)), ("b", ("int3", "int4", "int8")), ("c", ("fp32",))]
    space = SearchSpace(tuple(Gene.precision(name, choices) for name, choices in genes))
    more, fewer = few_bits_search.with_fewer_bits(space), few_bits_search.without(space)
    assert [gene.choices for gene in more.genes] == [
        ("int2", "int3", "int8"), ("int2", "int3", "int4", "int8"), ("fp32",),
    ]  # fmt: skip
    assert [gene.choices for gene in fewer.genes] == [("int8",), ("int4", "int8"), ("fp32",)]


def test_the_readmes_headline_is_that_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    page.write_text(README, encoding="utf-8")
    monkeypatch.setattr(headline_table, "README", page)
    monkeypatch.setattr(headline_table, "_plot", lambda trials, path: None)
    results = [json.loads(path.read_text()) for path in sorted(headline.RESULTS.glob("*.json"))]
    headline_table.write_tables(results, tmp_path)
    assert page.read_text(encoding="utf-8") == README


def test_onnxruntimes_static_quantization_is_the_baseline_of_convolutions(tmp_path: Path) -> None:
    model = ModelSettings.from_scratch(TOY_RESNET)
    data = load_data(DataSettings(name="digits", max_train=64), model)
    network = ResNetSuperNetwork(TOY_RESNET, 10)
    headline.export(network, tmp_path / "fp32.onnx")
    headline.quantize_convolutions(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", data.train)
    operators = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    convolutions = [node.op_type for node in onnx.load(tmp_path / "fp32.onnx").graph.node].count(
        "Conv"
    )
    assert operators.count("Conv") == convolutions > 0
    assert operators.count("DequantizeLinear") >= 2 * convolutions


def test_every_command_of_the_page_names_a_benchmark() -> None:
    """Lines of benchmarks/README.md that start a script: it exists and knows the options."""
    for line in re.findall(r"^    python (.*)$", README, re.MULTILINE):
        words = line.split("#")[0].split()
        path = words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0]
        source = (headline_table.README.parents[1] / path).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z][a-z-]+", line):
            assert f'"{option}"' in source, line


@pytest.mark.usefixtures("toys")
def test_models_are_written_run_elsewhere_and_compared(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portability, "SMALL_VIT", TOY_VIT)
    monkeypatch.setattr(portability, "LOADS", 2)
    run(portability.main, "write", tmp_path, "--only", "small ViT", "MiniLM", "ResNet-50")
    chosen = ("--only", "small ViT", "MiniLM", "ResNet-50")
    arguments = (tmp_path, *chosen, "--samples", 5, "--runtime", "onnxruntime")
    rows = run(portability.main, "matrix", *arguments).splitlines()[2:]
    assert len(rows) == 11
    for row in rows:
        _, _, where, difference, _, top1, _, _ = (cell.strip() for cell in row.split("|"))
        assert where == f"onnxruntime {onnxruntime.__version__}"
        assert difference == "0"
        assert top1 == "100.0%"
    printed = run(portability.main, "forms", tmp_path, tmp_path, *chosen, "--repeats", 6)
    assert [row.split("|")[2].strip() for row in printed.splitlines()[2:]] == ["1.000x"] * 11


def test_ways_of_splitting_heads_agree_and_are_compared(run: Run) -> None:
    """A form whose answers are not the operator's ends the benchmark with an error."""
    printed = run(attention_forms.main, "--sizes", "24,3,5", "--rounds", 3, "--blocks", 1)
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if "," in line]
    assert rows[1:] == [*attention_forms.FORMS]
    assert "| operator | 1.000, 1.000 |" in printed


def test_recipes_say_what_a_file_reaches(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump({**TOY, "polish": None}))
    printed = run(recipes.main, file, "--out", tmp_path / "out", "--seeds", 1)
    (row,) = read_json(tmp_path / "out" / "recipes.json").values()
    front = read_front(RunFolder(tmp_path / "out" / "toy-0"))
    assert front is not None
    model, low = front.model(front.recommended), front.model("int8")
    assert model.test_score is not None
    assert low.test_score is not None
    assert row["test"] == pytest.approx(model.test_score - low.test_score)
    assert f"| toy-0 | {row['faster']:.2f}x | {row['smaller']:.2f}x |" in printed
    assert {"training", "tuning", "search", "validation"} <= set(row["real_s"])
    again = run(recipes.main, file, "--out", tmp_path / "out", "--seeds", 1)
    assert again == printed


@pytest.mark.slow
def test_embedders_are_judged_by_neighbours_and_by_the_checkpoints_vectors(
    run: Run, tmp_path: Path
) -> None:
    checkpoint(CASES["embedding"], tmp_path / "model")
    rows = [{"text": " ".join(words), "label": words[0]} for words in sentences(150)]
    for name in ("data", "other"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    toy = {
        "data.max_length": 16,
        "space": {
            "depth": [1, 2],
            "num_heads": [2],
            "hidden_dim": [24],
            "precision": {"*": ["int8", "fp32"]},
        },
        "constraints": [],
        "tune.epochs": 1,
        "search": {"evaluations": 4, "round_size": 4, "strategy": "random"},
        "polish": None,
    }
    stated = [f"--set={key}={json.dumps(value)}" for key, value in toy.items()]
    places = [f"--{name}={tmp_path / name}.jsonl" for name in ("data", "other")]
    told = (f"--checkpoint={tmp_path / 'model'}", *places, f"--out={tmp_path / 'out'}", *stated)
    printed = run(embedder.main, *told)
    original, low, *ours = read_json(tmp_path / "out" / "result.json")["models"]
    assert len(printed.splitlines()) == 2 + 2 + len(ours) > 4
    assert original["cosine"] == pytest.approx(1)
    assert 0.9 < low["cosine"] < 1
    assert low["smaller"] == 1
    assert all(0 <= row["nearest_training"] <= 1 for row in (original, low, *ours))
    assert run(embedder.main, *told) == printed


def test_the_nearest_of_known_vectors_tells_the_class() -> None:
    rng = np.random.default_rng(0)
    known, given = rng.normal(size=(40, 5)), rng.normal(size=(30, 5))
    classes, truth = rng.integers(3, size=40), rng.integers(3, size=30)
    nearest = KNeighborsClassifier(1, metric="cosine").fit(known, classes)
    found = embedder.nearest_accuracy(given, truth, known, classes)
    assert found == pytest.approx(nearest.score(given, truth))


def test_promises_of_what_is_kept_back_hold() -> None:
    """Simulated models, all truly worse than INT8: only promises on samples that chose nothing
    are met, and as often as they say."""
    rng = np.random.default_rng(0)
    n, hard = 1200, rng.random(1200)
    lacking = np.linspace(0.01, 0.09, 40)
    right = np.stack([hard + rng.normal(0, 0.15, n) < 0.8 - gap for gap in (0.0, *lacking)])
    costs = np.r_[50.0, np.arange(40.0, 0.0, -1.0)]
    answers = promises.Answers(
        right, rng.integers(0, 5, n), costs, costs, 600,
    )  # fmt: skip
    dealt = [outcome for seed in range(60) for outcome in promises.deal(answers, 0.3, seed)]
    gaps = np.array([outcome.expected - outcome.found for outcome in dealt])
    assert abs(gaps.mean()) < 0.006
    assert np.mean([outcome.inside for outcome in dealt]) > 0.9
    rows = promises.table("toy", answers, [0.3], 10)
    assert [len(row) for row in rows] == [len(promises.COLUMNS)] * 4
