"""Pages say what is so: generated parts are current, paths exist, commands and YAML are valid."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml

import cli
from docs import reference_pages
from docs.draw_architecture import PAGE, imports, reduced, rewritten
from hardware.latency import run_times
from hardware.providers import find_provider
from hardware.writing.materialize import materialize
from nas.command_line import runs
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.latency_meter import LocalLatency
from nas.experiment.load import load_experiment
from nas.search_loop import SearchLoop

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}


def test_the_architectures_generated_parts_are_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run `python docs/draw_architecture.py`"


def test_left_out_arrows_follow_from_those_that_are_drawn() -> None:
    graph = imports()
    drawn = reduced(graph)

    def reach(name: str) -> set[str]:
        return set().union(*({used} | reach(used) for used in drawn.get(name, ())))

    assert sum(map(len, drawn.values())) < sum(map(len, graph.values()))
    assert all(used <= reach(name) for name, used in graph.items())


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        ("Where is a candidate turned into ONNX?", [CandidateBuilder.build, materialize]),
        ("Where is latency measured?", [LocalLatency, run_times]),
        ("Where would a new accelerator go?", [find_provider]),
        ("Where is the search loop?", [SearchLoop]),
        ("Where does the command line begin?", [cli.main, runs.show]),
    ],
)
def test_a_newcomers_question_names_the_files_that_do_it(question: str, answers: list[Any]) -> None:
    (row,) = (line for line in PAGE.read_text().splitlines() if line.startswith(f"| {question}"))
    named = re.findall(r"`([^`]+)`", row)
    for answer in answers:
        file = Path(inspect.getfile(answer)).relative_to(ROOT)
        assert {file.as_posix(), f"{file.parent.as_posix()}/"} & {*named}, file


@pytest.mark.parametrize("page", TEXTS)
def test_paths_that_a_page_names_exist(page: str) -> None:
    ours = "nas|supernets|predictors|hardware|tests|docs|benchmarks"
    for name in re.findall(rf"`((?:{ours})/[\w./<>]*)`", TEXTS[page]):
        assert list(ROOT.glob(re.sub("<[a-z]+>", "*", name))), name
    for name in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXTS[page]):
        place = (ROOT / page).parent / name
        assert place.exists() or place.stem in reference_pages.pages(), name


def commands(text: str) -> Iterator[list[str]]:
    """Arguments of every `simqnas ...` that stands in code, alone or in a line of a block."""
    inline = re.findall(r"`simqnas ([^`]+)`", text)
    blocks = re.findall(r"^ {4,}(?:\w+=\S+ )*simqnas (.+)$", text, re.MULTILINE)
    for line in (*inline, *blocks):
        yield shlex.split(line.split("#")[0].replace("\\|", "|"))


@pytest.mark.parametrize("page", TEXTS)
def test_commands_of_a_page_are_those_of_the_tool(page: str) -> None:
    """Names and options alone: what is in brackets is optional, capitals stand for anything."""
    group = typer.main.get_command(cli.app)
    context = click.Context(group)  # type: ignore[arg-type] # typer brings a click of its own
    for arguments in commands(TEXTS[page]):
        words = [word.strip("[]") for word in arguments]
        if words[0].startswith("-"):
            known, options = group, words
        else:
            found = group.get_command(context, words[0])  # type: ignore[attr-defined] # a group
            assert found is not None, arguments
            known, options = found, words[1:]
        names = {name for parameter in known.params for name in parameter.opts} | {"--help"}
        names |= {"--install-completion", "--show-completion"}
        for option in (word for word in options if word.startswith("--")):
            assert option.split("=")[0] in names, arguments


@pytest.mark.parametrize("page", TEXTS)
def test_yaml_of_a_page_is_valid(page: str, tmp_path: Path) -> None:
    """A whole experiment loads; a part of one is taken for what it replaces."""
    whole = {"name": "x", "model": {"checkpoint": "x"}, "data": {"name": "digits"}}
    for block in re.findall(r"^```yaml\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL):
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**whole, **yaml.safe_load(block)}))
        load_experiment(path)


def test_the_readme_has_what_is_checked_here() -> None:
    assert len(list(commands(TEXTS["README.md"]))) > 10
    assert "```yaml" in TEXTS["README.md"]
