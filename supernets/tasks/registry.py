"""The tasks there are: name -> where its descriptor is; free of torch."""

from __future__ import annotations

import difflib

TASKS: dict[str, str] = {
    "classification": "supernets.tasks.classification:Classification",
}


def task_named(name: str) -> str:
    """The name, if a task has it. Raises ValueError for any other."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=len(TASKS), cutoff=0)
        raise ValueError(f"no task is called {name!r}; there are {', '.join(near)}")
    return name
