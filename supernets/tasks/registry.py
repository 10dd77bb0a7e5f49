"""The tasks there are: name -> where its descriptor is; free of torch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from numpy.typing import NDArray

TASKS: dict[str, str] = {
    "classification": "supernets.tasks.classification:Classification",
    "pairs": "supernets.tasks.classification:Pairs",
    "multi-label": "supernets.tasks.multi_label:MultiLabel",
    "tokens": "supernets.tasks.tokens:Tokens",
    "embedding": "supernets.tasks.embedding:Embedding",
    "regression": "supernets.tasks.regression:Regression",
}


def task_named(name: str) -> str:
    """The name, if a task has it. Raises ValueError for any other."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=len(TASKS), cutoff=0)
        raise ValueError(f"no task is called {name!r}; there are {', '.join(near)}")
    return name


def make_task(
    name: str,
    label_names: Sequence[str],
    pair: bool = False,
    targets: NDArray[Any] | None = None,
    **options: str,
) -> Any:
    """The task of that name for these labels, a `Task`. targets: those to train on."""
    kind = resolve_name(TASKS[name])
    told = {} if targets is None else kind.options_from(targets)
    return kind(label_names, pair, **told, **options)
