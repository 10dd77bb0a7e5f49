"""The site builds without a warning or a network, and its search and pages tell the truth."""

from __future__ import annotations

import ast
import importlib
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cli import main
from docs import reference_pages
from nas.experiment.schema import Experiment
from supernets.metrics.own import own_quality
from supernets.user_code import user_function
from tests.test_docs import TEXTS

ROOT = Path(__file__).parent.parent
PACKAGES = ("nas", "supernets", "hardware")
SOURCES = [ROOT / "cli.py", *(path for n in PACKAGES for path in (ROOT / n).rglob("*.py"))]
QUESTIONS = {
    "how do I keep the head in FP32": "how-to/low-bits/",
    "what does accuracy_drop mean": "how-to/constraints/",
    "how do I use my own metric": "how-to/metric/",
    "how do I run on an edge board": "how-to/board/",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; every warning of mkdocs is an error."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    done = subprocess.run([*command, str(place)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?https?://[^>]+', text)
        assert not loaded, page


def words(text: str) -> list[str]:
    """Stems enough for a ranking: lower case, without a plural's s."""
    return [word.rstrip("s") for word in re.findall(r"[a-z0-9_]{2,}", text.lower())]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_readers_question_finds_its_page(site: Path, question: str) -> None:
    """Ranked by BM25 over the site's own index; a title counts three times."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    sections = {
        d["location"]: Counter(words(3 * (d["title"] + " ") + re.sub(r"<[^>]+>", " ", d["text"])))
        for d in index["docs"]
    }
    mean = sum(map(Counter.total, sections.values())) / len(sections)

    def score(found: Counter[str]) -> float:
        total = 0.0
        for word in set(words(question)):
            holding = sum(word in other for other in sections.values())
            rarity = math.log(1 + (len(sections) - holding + 0.5) / (holding + 0.5))
            count = found[word]
            total += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * found.total() / mean))
        return total

    best = sorted(sections, key=lambda place: -score(sections[place]))[:3]
    assert any(place.startswith(QUESTIONS[question]) for place in best), best


def test_every_field_and_command_has_its_row() -> None:
    pages = reference_pages.pages()
    schema = Experiment.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for name in part.get("properties", ()):
            assert f"| `{name}` |" in pages["experiment"], name
    for name in ("--measure", "--workers", "simqnas bench", "simqnas verify"):
        assert name in pages["commands"]
    assert "## load_run" in pages["api"]


def literal_texts() -> str:
    """All texts in the sources, a line each, holes of f-strings as a blank."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", " ") for part in node.values)
                found.append("".join(part if isinstance(part, str) else " " for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_that_are_explained_are_those_of_the_tool() -> None:
    messages = re.findall(r"^\| `([^`]+)` \|", TEXTS["docs/troubleshooting.md"], re.MULTILINE)
    texts = literal_texts()
    assert len(messages) > 20
    assert not [message for message in messages if message.strip() not in texts]


@pytest.mark.parametrize("page", [name for name in TEXTS if "```python" in TEXTS[name]])
def test_python_of_a_page_compiles_and_imports_what_there_is(page: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):
                    assert hasattr(module, name) or find_spec(f"{node.module}.{name}"), name


def blocks(page: str) -> dict[str, list[str]]:
    """Code of a page by its language; commands, indented, under `sh`."""
    text = TEXTS[page]
    found = {
        kind: re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for kind in ("python", "yaml")
    }
    return {**found, "sh": re.findall(r"^ {4}simqnas (.+)$", text, re.MULTILINE)}


TUTORIALS = ["docs/tutorials/texts.md", "docs/tutorials/images.md"]


def prepared(page: str, folder: Path) -> dict[str, list[str]]:
    """Do what stands before a tutorial's commands: make the data, write the file."""
    found = blocks(page)
    execute(["-c", found["python"][0]], folder)
    (name,) = {word for line in found["sh"] for word in line.split() if word.endswith(".yaml")}
    (folder / name).write_text(found["yaml"][0], encoding="utf-8")
    return found


def run_command(line: str, folder: Path) -> None:
    execute(["-m", "cli", *line.split()], folder)


def execute(arguments: list[str], folder: Path) -> str:
    """Run Python in a folder; gives what it prints."""
    ours = {"PYTHONPATH": str(ROOT), "SIMQNAS_CACHE": str(folder / "cache")}
    command = [sys.executable, *arguments]
    environment = {**os.environ, **ours}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_tutorials_check_passes_word_by_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepared(TUTORIALS[0], tmp_path)
    line = next(line for line in found["sh"] if line.startswith("check"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["simqnas", *line.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_holds_word_by_word(page: str, tmp_path: Path) -> None:
    found = prepared(page, tmp_path)
    for line in found["sh"]:
        run_command(line, tmp_path)
    assert re.match(r"[\w-]+ \d+\n", execute(["-c", found["python"][-1]], tmp_path))


def test_the_metric_and_the_loader_of_the_pages_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for page in ("metric", "data"):
        (block,) = blocks(f"docs/how-to/{page}.md")["python"]
        (tmp_path / block.split(",")[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    logits, targets = np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 1, 0])
    value = own_quality("costs:saved").score(logits, targets, ["calm", "urgent"])
    assert value == pytest.approx(1 - (5 + 1) / (1 + 5 + 5 + 1))
    with sqlite3.connect("shop.sqlite") as database:
        database.execute("create table reviews (text, label, split)")
        rows = [("a", "x", "train"), ("b", "y", "train"), ("c", "x", "test")]
        database.executemany("insert into reviews values (?, ?, ?)", rows)
    assert user_function("shop:reviews", "data.loader")("shop.sqlite") == {
        "train": [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
        "test": [{"text": "c", "label": "x"}],
    }
