"""A first experiment file: a few lines, with what was found in the data as comments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from nas.experiment.load import ExperimentError


def starter(
    checkpoint: str,
    data: str,
    *,
    name: str | None = None,
    budget: str | None = None,
    provider: str | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """The sections of a first experiment; what is None stays open."""
    target = {"provider": provider, "threads": threads}
    given = {
        "name": name or name_of(checkpoint, data),
        "budget": budget,
        "model": {"checkpoint": checkpoint},
        "data": {"name": data},
        "target": {key: value for key, value in target.items() if value is not None} or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def name_of(checkpoint: str, data: str) -> str:
    """A run's name from the last parts of a checkpoint's and a data set's."""
    words = (
        re.sub(r"[^A-Za-z0-9]+", "-", Path(place).stem).strip("-") for place in (checkpoint, data)
    )
    return "-".join(filter(None, words))[:100] or "experiment"


def beside(place: str, folder: Path) -> str:
    """A local path as a file in `folder` names it; other names are hub ids."""
    path = Path(place).expanduser()
    return os.path.relpath(path, folder) if path.exists() else place


def commented(sections: dict[str, Any], found: Iterable[str]) -> str:
    """The sections as a file that says what may be added. found: lines about data and model."""
    lines = ["# What is left out follows from these; `simqnas check` shows it, with its reason.\n"]
    lines += [f"# {line}\n" for line in found]
    text = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True, width=10_000)
    notes = {
        "name": "results go to runs/<name>",
        "budget": "wall clock on this machine; without it, effort: quick, standard or thorough",
        "model": "a Hugging Face id, a folder, or sizes to train from scratch",
        "data": "a folder, a file, a Hugging Face id, digits or pydoc",
        "target": "where the models will run",
    }
    for line in text.splitlines():
        key = line.partition(":")[0]
        lines.append(f"{line}  # {notes[key]}\n" if key in notes else f"{line}\n")
    if "budget" not in sections:
        lines.append("# budget: 30 min  # all of the run on this machine; or effort: quick\n")
    lines.append('# constraints: ["latency_ms <= 0.5 * int8", "size_bytes <= 0.5 * int8"]\n')
    return "".join(lines)


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet. Raises ExperimentError where there is one."""
    if path.exists():
        raise ExperimentError([f"{path}: is there already; give another --out, or remove it"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
