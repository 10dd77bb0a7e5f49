"""Every command as a user types it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from rich.console import Console, Group
from rich.table import Table

from cli import main
from hardware.formats.registry import FORMATS
from hardware.providers import PROVIDERS
from hardware.session import open_session, predict
from hardware.target import Target
from nas.api import load_run
from nas.command_line import output
from nas.run.listing import Listing
from nas.run.progress import rich_reporter
from tests.conftest import FEW, TINY

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(re.findall(r"^\| `simqnas (\w+)", README, re.MULTILINE))
Simqnas = Callable[..., str]


@pytest.fixture
def simqnas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Simqnas:
    """Call the command; gives what it printed, on stderr where another exit code is expected."""

    def call(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["simqnas", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        printed, complaint = capsys.readouterr()
        assert caught.value.code == code, complaint
        assert "Traceback" not in complaint
        return complaint if code else printed

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, made by the command."""
    base = tmp_path_factory.mktemp("run")
    model = {"vit": {**TINY["model"]["vit"], "depth": 2}}  # type: ignore[index] # a dict in a dict
    quick = {"epochs": 1, "batch_size": 250}
    experiment = {
        **TINY,
        "data": FEW,
        "model": model | {"training": quick},
        "space": {"depth": [1, 2], "num_heads": [2, 4], "hidden_dim": [32, 64]},
        "tune": {**quick},
        "search": {"evaluations": 8, "round_size": 4, "population": 10, "generations": 2},
        "export": {"models": 2},
    }
    (base / "tiny.yaml").write_text(yaml.safe_dump(experiment))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setenv("SIMQNAS_CACHE", str(base / "cache"))
        arguments = ["simqnas", "run", str(base / "tiny.yaml"), "--out", str(base / "r")]
        patch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as caught:
            main()
    assert caught.value.code == 0
    assert "Pareto front" in printed.getvalue()
    assert f"report: {base / 'r' / 'report.html'}\n" in printed.getvalue()
    return base / "r"


def logits(model: Path) -> np.ndarray:
    pixels = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
    return predict(open_session(str(model), Target()), [{"pixel_values": pixels}])


def test_version_is_that_of_the_package(simqnas: Simqnas) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert simqnas("--version") == f"simqnas {project['version']}\n"


def test_help_and_readme_name_the_same_commands(simqnas: Simqnas) -> None:
    assert sorted(re.findall(r"^│ (\w+) ", simqnas("--help"), re.MULTILINE)) == COMMANDS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", COMMANDS),
        ("doctor --provider ", sorted(PROVIDERS)),
        ("export RUN --precision ", sorted(FORMATS)),
    ],
)
def test_the_shell_is_told_what_there_is(words: str, expected: list[str]) -> None:
    """As bash asks after `simqnas --install-completion` and a tab."""
    number = str(1 + words.count(" "))
    asked = {"_SIMQNAS_COMPLETE": "complete_bash", "COMP_WORDS": f"simqnas {words}"}
    asked["COMP_CWORD"] = number
    command = [sys.executable, "-m", "cli"]
    environment = {**os.environ, **asked}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert sorted(told.stdout.split()) == expected


def test_show_prints_the_same_evaluations_in_every_form(simqnas: Simqnas, finished: Path) -> None:
    known = json.loads(simqnas("show", finished, "--json"))
    rows = list(csv.DictReader(io.StringIO(simqnas("show", finished, "--csv"))))
    assert [row["key"] for row in rows] == [e["key"] for e in known["evaluations"]]
    assert [row["role"] for row in rows].count("search") == 8
    for row, evaluation in zip(rows, known["evaluations"], strict=True):
        assert {name: float(row[name]) for name in evaluation["metrics"]} == evaluation["metrics"]
    lines = simqnas("show", finished)
    assert "stage: finished 8 of 8" in lines
    assert f"evaluations: {len(rows)}, 0 of them failed" in lines


def test_report_is_written_again(simqnas: Simqnas, finished: Path) -> None:
    page, text = finished / "report.html", finished / "report.md"
    page.unlink()
    text.unlink()
    assert simqnas("report", finished) == f"report: {page}\n"
    for name in (model.name for model in (finished / "models").iterdir()):
        assert name in page.read_text()
        assert name in text.read_text()


def test_export_of_a_key_is_that_candidate(
    simqnas: Simqnas, finished: Path, tmp_path: Path
) -> None:
    key = next(path.name for path in (finished / "models").iterdir() if len(path.name) == 12)
    written = Path(simqnas("export", finished, "--out", tmp_path / "out", "--key", key).strip())
    assert written == tmp_path / "out" / key
    shipped = finished / "models" / key / "model.onnx"
    assert np.array_equal(logits(written / "model.onnx"), logits(shipped))


def test_export_of_an_architecture_is_at_the_precision_asked_for(
    simqnas: Simqnas, finished: Path, tmp_path: Path
) -> None:
    arguments = ("export", finished, "--out", tmp_path, "--architecture", "largest")
    written = Path(simqnas(*arguments, "--precision", "int8").strip())
    policy = json.loads((written / "policy.json").read_text())
    assert set(policy["policy"].values()) == {"int8"}
    largest = Path(simqnas(*arguments).strip())
    assert (written / "model.onnx").stat().st_size < (largest / "model.onnx").stat().st_size / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--key", "0123"], "0123"),
        (["--architecture", "tallest"], "tallest"),
        (["--architecture", "largest", "--precision", "int5"], "int3"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    simqnas: Simqnas, finished: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    complaint = simqnas("export", finished, "--out", tmp_path / "out", *options, code=2)
    assert complaint.startswith("error: ")
    assert message in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["show", "report", "worker", "export"])
def test_a_folder_without_a_run_is_one_line(simqnas: Simqnas, tmp_path: Path, command: str) -> None:
    more = ("--out", tmp_path / "out") if command == "export" else ()
    complaint = simqnas(command, tmp_path / "none", *more, code=2)
    assert str(tmp_path / "none") in complaint
    assert complaint.count("\n") == 1


def test_check_names_genes_and_trains_nothing(simqnas: Simqnas, finished: Path) -> None:
    before = sorted(finished.rglob("*"))
    printed = simqnas("check", finished / "experiment.yaml")
    assert "blocks.*.attention.num_heads" in printed
    assert "smallest" in printed
    assert sorted(finished.rglob("*")) == before


def test_check_gives_scripts_plain_values(simqnas: Simqnas, finished: Path) -> None:
    told = json.loads(simqnas("check", finished / "experiment.yaml", "--json"))
    assert told["experiment"] == load_run(finished).experiment.model_dump(mode="json")
    space = json.loads((finished / "supernet" / "space.json").read_text())
    assert sum(row["count"] for row in told["genes"]) == len(space)
    assert told["extremes"][0]["network"] == "smallest"
    assert 0 < told["extremes"][0]["macs"] < told["extremes"][-1]["macs"]
    assert any("distinct candidates" in line for line in told["lines"])


def test_every_mistake_of_a_file_is_a_line_of_its_own(
    simqnas: Simqnas, experiment_file: Callable[..., Path]
) -> None:
    path = experiment_file(seed=-1, objectives=["speed"], serach={})
    lines = simqnas("check", path, code=2).splitlines()
    assert [any(part in line for line in lines) for part in ("seed", "speed", "serach")] == [
        True
    ] * 3
    assert all(line.startswith("error: ") for line in lines)


def test_schema_knows_and_describes_every_field_of_the_examples(simqnas: Simqnas) -> None:
    schema = json.loads(simqnas("schema"))

    def fields(node: object) -> dict[str, dict[str, object]]:
        """Fields of a part, of whichever of its forms."""
        assert isinstance(node, dict)
        found = dict(node.get("properties", {}))
        for form in node.get("anyOf", ()):
            found |= fields(form)
        if "$ref" in node:
            found |= fields(schema["$defs"][node["$ref"].rsplit("/", 1)[1]])
        return found

    def walk(node: object, value: object, path: str) -> None:
        known = fields(node)
        if not known or not isinstance(value, dict):
            return
        for name, part in value.items():
            assert name in known, f"{path}.{name}"
            assert "description" in known[name] or "$ref" in known[name], f"{path}.{name}"
            walk(known[name], part, f"{path}.{name}")

    for path in sorted((ROOT / "examples").glob("*.yaml")):
        walk(schema, yaml.safe_load(path.read_text()), path.stem)


def test_bench_measures_models_side_by_side(simqnas: Simqnas, finished: Path) -> None:
    model = finished / "models" / "fp32" / "model.onnx"
    alone = simqnas("bench", model, "--repeats", 3)
    assert re.search(r"model\.onnx +│ 0\.\d+\*? ", alone), "a median"
    both = simqnas("bench", model, "--against", model, "--repeats", 30)
    ratio = re.search(r"(\d\.\d+) \(\d\.\d+ \.\.", both)
    assert ratio is not None, both
    assert 0.2 < float(ratio[1]) < 5, "a model against itself, however busy the machine"
    missing = simqnas("bench", finished / "absent.onnx", code=2)
    assert missing.startswith(f"error: {finished / 'absent.onnx'}: no such file")


def test_bench_refuses_what_no_target_names(simqnas: Simqnas, tmp_path: Path) -> None:
    mystery = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["mystery"])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["mystery"])
    graph = onnx.helper.make_graph([node], "g", [mystery], [y])
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
        ),
        path,
    )
    assert "mystery" in simqnas("bench", path, code=2)


def test_doctor_shows_every_format_of_the_target(simqnas: Simqnas) -> None:
    printed = simqnas("doctor", "--repeats", 3)
    for word in ("CPUExecutionProvider", "fp32", "int8", "int4"):
        assert word in printed
    assert "npu" in simqnas("doctor", "--provider", "npu", code=2)


def test_watch_ends_with_a_finished_run(simqnas: Simqnas, finished: Path) -> None:
    lines = simqnas("watch", finished).splitlines()
    assert lines[0] == "stage: finished 8 of 8"
    assert any(re.fullmatch(r"  search: done, \d+\.\d min", line) for line in lines)
    assert not any(line.startswith("left:") for line in lines)


def test_json_is_all_that_is_printed(simqnas: Simqnas, finished: Path, tmp_path: Path) -> None:
    assert json.loads(simqnas("report", finished, "--json")) == {
        "report": str(finished / "report.html")
    }
    out = tmp_path / "out"
    (written,) = json.loads(simqnas("export", finished, "--out", out, "--json"))
    assert (Path(written["model"]) / "model.onnx").exists()
    model = finished / "models" / "int8" / "model.onnx"
    found = json.loads(simqnas("bench", model, "--repeats", 3, "--json"))
    assert found["model"]["size_bytes"] == model.stat().st_size
    again = json.loads(simqnas("run", finished.parent / "tiny.yaml", "--out", finished, "--json"))
    assert again["models"] == json.loads((finished / "front.json").read_text())["models"]


def test_runs_are_compared(simqnas: Simqnas, finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    assert simqnas("report", finished, finished, "--out", page) == f"report: {page}\n"
    assert "Settings, data and conditions are the same." in page.read_text()
    assert "several are compared with --out" in simqnas("report", finished, finished, code=2)


@pytest.mark.parametrize("columns", [40, 200])
def test_progress_keeps_to_one_line(columns: int) -> None:
    """On a terminal of that width; without colours where NO_COLOR says so."""
    file = io.StringIO()
    console = Console(
        file=file, width=columns, force_terminal=True, no_color=True, color_system="standard"
    )
    with rich_reporter(console) as reporter:
        reporter.stage("search").update(3, 10, "best: " + "very good " * 30)
    lines = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= columns
    assert len({line for line in lines if "search" in line}) == 1
    assert not re.search("\x1b\\[(3[0-7]|9[0-7]|38)", file.getvalue())


@pytest.mark.parametrize("command", ["check", "run"])
def test_the_storage_of_the_command_goes_before_the_environments(
    simqnas: Simqnas,
    monkeypatch: pytest.MonkeyPatch,
    experiment_file: Callable[..., Path],
    tmp_path: Path,
    command: str,
) -> None:
    monkeypatch.setenv("SIMQNAS_STORAGE", f"sqlite:///{tmp_path}/absent/of-environment.db")
    given = f"sqlite:///{tmp_path}/missing/of-command.db"
    told = simqnas(command, experiment_file(), "--out", tmp_path / "o", "--storage", given, code=2)
    assert "of-command.db" in told
    assert "of-environment" not in told


@pytest.mark.parametrize("columns", [30, 80])
def test_narrow_consoles_cut_no_words_of_tables(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=file, width=columns, no_color=True))
    row = ["blocks.*.attention.query.precision", 12, ["int4", "int8"]]
    genes = Listing("Genes", ("gene", "count", "choices"), [row])
    facts = Table("", "", show_header=False, caption="[*] disturbed")
    facts.add_row("flags", "avx2 a_word_of_26_characters_")
    output.print_shown(Group(genes.__rich__(), facts))
    output.print_shown(genes)
    printed = file.getvalue()
    assert "…" not in printed
    words = ("blocks.*.attention.query.precision", "int4, int8", "a_word_of_26_characters_", "[*]")
    assert all(word in printed for word in words)
    in_lines = f"Genes:\ngene: {row[0]}\n  count: 12\n  choices: int4, int8\n"
    assert printed.count(in_lines) == (2 if columns == 30 else 0)
