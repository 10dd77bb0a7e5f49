"""What `pip install simqnas` brings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("nas", "supernets", "predictors", "hardware")


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """Built from a copy, by the installed setuptools: the network is not asked."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "cli.py"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--wheel-dir", str(tmp_path)], cwd=source, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("simqnas-*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert shipped == expected | {"cli.py"}
    assert {f"{name}/py.typed" for name in PACKAGES} < shipped


def test_the_hosted_checks_run_on_every_python_that_is_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    begin = "Programming Language :: Python :: 3."
    promised = [name.rpartition(" ")[2] for name in project["classifiers"] if begin in name]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["run"]
    assert job["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize(("hosted", "asked"), [("ci", "push"), ("weekly", "schedule")])
def test_hosted_jobs_run_scripts_that_are_there(hosted: str, asked: str) -> None:
    """Every slow test that no push runs is run every week."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{hosted}.yml").read_text())
    assert asked in workflow[True]  # what YAML 1.1 reads from `on`
    (job,) = workflow["jobs"].values()
    (script,) = (step["run"] for step in job["steps"] if "run" in step)
    assert os.access(ROOT / script, os.X_OK)
    assert ("-m slow\n" in (ROOT / script).read_text()) == (asked == "schedule")


IMPORTED_AS = {"onnx-ir": "onnx_ir", "pillow": "PIL", "scikit-learn": "sklearn"}
"""Distributions whose packages have other names."""
LIGHT = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))  # importing any of them fails
import cli
{code}
"""


def without_training_packages(code: str) -> subprocess.CompletedProcess[str]:
    """Run code as where only `pip install simqnas` was done."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    train = project["optional-dependencies"]["train"]
    names = [re.match(r"[\w-]+", requirement).group() for requirement in train]  # type: ignore[union-attr] # each begins with a name
    missing = [IMPORTED_AS.get(name, name) for name in names]
    code = LIGHT.format(missing=missing, code=code)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "no-such-file.yaml", "--measure", "latency"],
        ["bench", "no-such-file.onnx"],
        ["verify", "no-such-folder"],
    ],
)
def test_a_board_measures_without_what_trains(arguments: list[str]) -> None:
    """Everything is imported before the file is missed."""
    done = without_training_packages(f"sys.argv = ['simqnas', *{arguments!r}]\ncli.main()")
    assert done.returncode == 2
    assert "no-such" in done.stderr
    assert "not installed" not in done.stderr


def test_doctor_runs_without_what_trains() -> None:
    done = without_training_packages("import hardware.doctor\nhardware.doctor.examine_machine()")
    assert done.returncode == 0, done.stderr


def test_a_command_that_trains_says_what_to_install() -> None:
    code = "sys.argv = ['simqnas', 'check', 'examples/digits_vit.yaml']\ncli.main()"
    done = without_training_packages(code)
    assert done.returncode == 2
    assert "pip install 'simqnas[train]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
