"""Arguments and options that several commands share. Nothing here imports a framework."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nas.experiment.database_url import STORAGE_VARIABLE


def format_names() -> list[str]:
    from hardware.formats.registry import FORMATS

    return list(FORMATS)


def provider_names() -> list[str]:
    from hardware.providers import PROVIDERS

    return list(PROVIDERS)


def _remember(storage: str | None) -> str | None:
    """Hand a database URL on to everything that opens the ledger of a run folder."""
    if storage is not None:
        os.environ[STORAGE_VARIABLE] = storage
    return storage


ExperimentFile = Annotated[Path, typer.Argument(help="Experiment file (YAML).", metavar="FILE")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: search.evaluations=80. Repeatable."),
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; default runs/<name>.", show_default=False)
]
Storage = Annotated[
    str | None,
    typer.Option(
        callback=_remember,
        envvar=STORAGE_VARIABLE,
        help="Database URL of the ledger, such as postgresql://user@host/name; default: what the "
        "experiment says, or a file in the run folder.",
        show_default=False,
        show_envvar=True,
    ),
]
Run = Annotated[Path, typer.Argument(help="Run folder, such as runs/digits_vit.", metavar="RUN")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; progress goes to stderr.")]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Hugging Face id or folder of a checkpoint.", show_default=False),
]
Data = Annotated[
    str | None,
    typer.Option(help="Folder, file or Hugging Face id of the data.", show_default=False),
]
Budget = Annotated[str | None, typer.Option(help="Wall clock, such as 30 min.", show_default=False)]
Provider = Annotated[
    str,
    typer.Option(
        help="Execution provider, as `target.provider` in an experiment.",
        autocompletion=provider_names,
    ),
]
Threads = Annotated[int, typer.Option(help="Threads of one inference.")]
Repeats = Annotated[
    int,
    typer.Option(help="Runs of each model; a third, timed and uninterrupted, counts.", min=1),
]
