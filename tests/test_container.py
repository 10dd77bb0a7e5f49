"""Dockerfile and compose.yaml fit the project; their commands run without a container, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml

import cli
from tests.conftest import TINY
from tests.faults.postgres import server

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]


def arguments(instruction: str) -> list[list[str]]:
    """Words of every line of the Dockerfile that begins so."""
    return [line.split()[1:] for line in LINES if line.startswith(instruction + " ")]


def test_what_is_copied_is_all_that_a_wheel_needs() -> None:
    copied = {name for words in arguments("COPY") for name in words[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {n.rstrip("*") for n in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == packages | {"pyproject.toml", "README.md", "LICENSE", "cli.py"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


def test_what_is_installed_exists_and_no_stage_ends_as_root() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = re.findall(r"/source\[([\w,]+)\]", "\n".join(LINES))
    assert named
    assert all(set(names.split(",")) <= set(extras) for names in named)
    stages = "\n".join(LINES).split("\nFROM ")[1:]
    assert len(stages) == 2
    assert all(re.findall(r"^USER (\d+)", stage, re.MULTILINE)[-1] != "0" for stage in stages)


@pytest.mark.parametrize("service", ["driver", "worker"])
def test_commands_of_the_services_are_those_of_the_tool(service: str) -> None:
    name, *words = SERVICES[service]["command"]
    group = typer.main.get_command(cli.app)
    command = group.get_command(click.Context(group), name)  # type: ignore[attr-defined,arg-type] # typer's own
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.slow
def test_the_services_finish_a_run_together(tmp_path: Path) -> None:
    """Without a home that can be written; each command begins when its condition holds."""
    experiment = {**TINY, "polish": None, "export": {"models": 1}, "tune": {"epochs": 1}}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    with server() as url:
        own = {"SIMQNAS_STORAGE": url, "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
        environment = {**os.environ, **own, "SIMQNAS_CACHE": str(tmp_path / "cache")}

        def here(word: str) -> str:
            return word.replace("/runs/", f"{tmp_path}/runs/")

        def start(service: str) -> subprocess.Popen[str]:
            words = map(here, SERVICES[service]["command"])
            command = [sys.executable, "-m", "cli", *words]
            return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True)

        driver = start("driver")
        ready = Path(here(SERVICES["driver"]["healthcheck"]["test"][-1]))
        while not ready.exists():
            assert driver.poll() is None
            time.sleep(0.5)
        workers = [start("worker") for _ in range(SERVICES["worker"]["deploy"]["replicas"])]
        assert driver.wait(timeout=600) == 0
        assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert (tmp_path / "runs" / "run" / "report.html").exists()
