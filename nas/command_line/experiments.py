"""Commands about an experiment: init, check, run, worker, schema.

Frameworks are imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nas.command_line.options import (
    AsJson,
    Budget,
    Checkpoint,
    Data,
    ExperimentFile,
    Out,
    Overrides,
    Storage,
    provider_names,
)
from nas.command_line.output import (
    console,
    print_front,
    print_json,
    print_line,
    print_shown,
    progress_console,
)
from nas.run.interrupts import Stopped

if TYPE_CHECKING:
    from nas.experiment.schema import Experiment


def init(
    checkpoint: Checkpoint = None,
    data: Data = None,
    budget: Budget = None,
    provider: Annotated[
        str | None, typer.Option(help="Execution provider.", autocompletion=provider_names)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one inference.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default <name>.yaml.", show_default=False)
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Write an experiment file; asks for what is not given, where there is somebody to ask."""
    from nas.experiment.load import experiment_of, override_field
    from nas.recipe.starter import beside, commented, starter, write_new

    checkpoint = checkpoint or _ask("--checkpoint", "Checkpoint (Hugging Face id or folder)")
    data = data or _ask("--data", "Data (folder, file or Hugging Face id)")
    if budget is None and sys.stdin.isatty():
        budget = typer.prompt("Budget of wall clock (30 min, 2 h; empty: effort standard)", "")
    if threads is None and sys.stdin.isatty():
        threads = typer.prompt("Threads of one inference on the target", 1, type=int)
    written = partial(starter, budget=budget or None, provider=provider, threads=threads)
    experiment = experiment_of(written(checkpoint, data), Path.cwd(), "init", overrides or [])
    from supernets.load import load_data

    found = load_data(experiment.data, experiment.model, experiment.task)
    path = out or Path(f"{experiment.name}.yaml")
    places = beside(checkpoint, path.parent), beside(data, path.parent)
    sections = written(*places, name=experiment.name)
    for override in overrides or []:
        override_field(sections, override)
    write_new(path, commented(sections, (*found.source.account.lines(), *found.notes)))
    console.print(f"{path}: `simqnas run {path}` starts it", highlight=False, markup=False)


def _ask(option: str, question: str) -> str:
    """An answer from the terminal; without one the option has to be given."""
    if not sys.stdin.isatty():
        raise ValueError(f"{option}: give it, as there is no terminal to ask at")
    return str(typer.prompt(question))


def run(
    file: Annotated[
        Path | None,
        typer.Argument(help="Experiment file (YAML).", metavar="FILE", show_default=False),
    ] = None,
    checkpoint: Checkpoint = None,
    data: Data = None,
    budget: Budget = None,
    out: Out = None,
    overrides: Overrides = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Processes that evaluate candidates, or 'remote': only `simqnas worker` "
            "elsewhere does; default: this process.",
            show_default=False,
        ),
    ] = None,
    measure: Annotated[
        str,
        typer.Option(
            help="all, or accuracy: latency comes from `simqnas worker --measure latency`."
        ),
    ] = "all",
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Run folder of the same super-network, for another target or other constraints: "
            "start from its weights and scores.",
            show_default=False,
        ),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Tune, search, validate, export and report. Run it again to continue where it stopped.

    Without a file, `--checkpoint M --data D` is one.
    """
    from nas.api import search
    from nas.run.interrupts import StoppableReporter, StopRequest
    from nas.run.progress import rich_reporter

    number, elsewhere = _number_of(workers), _one_of(measure, "all", "accuracy")
    experiment = _experiment(file, overrides or [], checkpoint, data, budget)
    # torch takes seconds to import: a mistake in the file is told before.
    from supernets.training.distributed import Ranks

    request, leads = StopRequest(), Ranks.of_environment().leads
    shown = rich_reporter(progress_console(as_json) if leads else Console(quiet=True))
    with request.listening() if leads else nullcontext(), shown as reporter:
        stoppable = StoppableReporter(reporter, request)
        done = search(
            experiment,
            out,
            workers=number,
            latency_elsewhere=elsewhere,
            source=source,
            reporter=stoppable,
        )
    if not leads:
        return
    front = done.validated
    if as_json:
        print_json({**front.to_json(), "folder": done.folder, "report": done.report})
        return
    print_front(front)
    print_line(f"report: {done.report}")


def _experiment(
    file: Path | None, overrides: list[str], checkpoint: str | None, data: str | None,
    budget: str | None,
) -> Experiment:  # fmt: skip
    """The experiment of a file, or of the options that stand for one."""
    from nas.experiment.load import experiment_of, load_experiment
    from nas.recipe.starter import starter

    if (file is None) == (checkpoint is None and data is None):
        raise ValueError("give either an experiment FILE, or --checkpoint and --data")
    if file is not None:
        wall = [f"budget={json.dumps(budget)}"] if budget is not None else []
        return load_experiment(file, [*wall, *overrides])
    if checkpoint is None or data is None:
        raise ValueError("--checkpoint and --data: give both, or an experiment FILE")
    sections = starter(checkpoint, data, budget=budget)
    return experiment_of(sections, Path.cwd(), "run", overrides)


def _number_of(workers: str | None) -> int | None:
    if workers is None or workers == "remote":
        return None if workers is None else 0
    if not workers.isascii() or not workers.isdigit() or not 1 <= int(workers) <= 1000:
        raise ValueError(f"--workers {workers}: must be a number from 1 to 1000, or remote")
    return int(workers)


def worker(
    place: Annotated[
        Path, typer.Argument(help="Run folder or experiment file.", metavar="RUN-or-FILE")
    ],
    measure: Annotated[
        str,
        typer.Option(help="all, or latency: for a target device that has ONNX Runtime, not torch."),
    ] = "all",
    storage: Storage = None,
) -> None:
    """Evaluate candidates of a run that is driven elsewhere, as `simqnas run --workers remote`."""
    from nas.run.interrupts import StopRequest
    from nas.run.progress import rich_reporter
    from nas.workers.executors import DRIVER_VARIABLE

    if _one_of(measure, "all", "latency"):
        from nas.workers.latency_worker import measure_latency as work
    else:
        from nas.worker import work
    hired = DRIVER_VARIABLE in os.environ
    request = StopRequest(notice="") if hired else StopRequest()
    quiet = Console(stderr=True, quiet=hired)
    with request.listening(), rich_reporter(quiet) as reporter:
        try:
            work(place, reporter, request)
        except Stopped:
            reporter.say("stopped")


def _one_of(measure: str, default: str, other: str) -> bool:
    """Whether the other choice than the default was made."""
    if measure not in (default, other):
        raise ValueError(f"--measure {measure}: must be {default} or {other}")
    return measure == other


def check(
    file: ExperimentFile,
    out: Out = None,
    overrides: Overrides = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Validate an experiment file; print its genes, sizes and limits. Trains nothing."""
    from nas.api import check as dry_run
    from nas.experiment.load import load_experiment
    from nas.run.listing import Listing

    experiment = load_experiment(file, overrides or [])
    if not as_json:
        dry_run(experiment, out, tell=print_shown)
        return
    found: list[object] = []
    resolved = dry_run(experiment, out, tell=found.append)
    tables = {part.title.lower(): part.to_json() for part in found if isinstance(part, Listing)}
    lines = [part for part in found if isinstance(part, str)]
    print_json({"experiment": resolved.model_dump(mode="json"), **tables, "lines": lines})


def schema() -> None:
    """Print the JSON Schema of experiment files, for editors."""
    from nas.experiment.schema import Experiment

    print_json(Experiment.model_json_schema())
