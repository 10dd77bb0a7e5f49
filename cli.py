"""The `simqnas` command. Frameworks are imported inside the commands, so that --help is quick."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from hardware.telemetry import switch_off
from nas.command_line.options import (
    AsJson,
    Budget,
    Checkpoint,
    Data,
    ExperimentFile,
    Out,
    Overrides,
    Provider,
    Repeats,
    Run,
    Storage,
    Threads,
    format_names,
    provider_names,
)
from nas.command_line.output import (
    EXIT_CODES,
    console,
    fail,
    message,
    print_front,
    print_json,
    print_line,
    print_shown,
    progress_console,
)
from nas.run.interrupts import Stopped

if TYPE_CHECKING:
    from nas.experiment.schema import Experiment

app = typer.Typer(
    name="simqnas",
    help="Search sub-networks and per-layer precisions of a ViT, BERT or ResNet checkpoint "
    "together; take home Pareto-optimal ONNX models.",
    epilog=f"Exit codes: {'; '.join(f'{code} {what}' for code, what in EXIT_CODES.items())}. "
    "NO_COLOR=1 prints without colours.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"simqnas {version('simqnas')}")
        raise typer.Exit


@app.callback()
def simqnas(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options that belong to no command."""


@app.command()
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


@app.command()
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
    _remember(storage)
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


def _one_of(measure: str, default: str, other: str) -> bool:
    """Whether the other choice than the default was made."""
    if measure not in (default, other):
        raise ValueError(f"--measure {measure}: must be {default} or {other}")
    return measure == other


def _number_of(workers: str | None) -> int | None:
    if workers is None or workers == "remote":
        return None if workers is None else 0
    if not workers.isascii() or not workers.isdigit() or not 1 <= int(workers) <= 1000:
        raise ValueError(f"--workers {workers}: must be a number from 1 to 1000, or remote")
    return int(workers)


@app.command()
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

    _remember(storage)
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


@app.command()
def show(
    run_folder: Run,
    csv: Annotated[bool, typer.Option("--csv", help="Print the evaluations as CSV.")] = False,
    as_json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Print stage, progress, the best so far and failures of a run, finished or not."""
    from nas.reporting.run_status import Overview
    from nas.run.run_folder import RunFolder

    _remember(storage)
    overview = Overview.of(RunFolder(run_folder))
    if as_json:
        print_json(overview.to_json())
    elif csv:
        typer.echo(overview.to_csv(), nl=False)
    else:
        for line in overview.lines():
            print_line(line)


@app.command()
def watch(
    run_folder: Run,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 5.0,
    storage: Storage = None,
) -> None:
    """Show a run that works elsewhere until it is finished: its stages, minutes left, the best."""
    from nas.reporting.run_status import watch as watch_run
    from nas.run.run_folder import RunFolder

    _remember(storage)
    watch_run(RunFolder(run_folder), console, every)


def _remember(storage: str | None) -> None:
    """Hand a database URL on to everything that opens the ledger of a run folder."""
    if storage is not None:
        os.environ["SIMQNAS_STORAGE"] = storage


@app.command()
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

    _remember(storage)
    experiment = load_experiment(file, overrides or [])
    if not as_json:
        dry_run(experiment, out, tell=print_shown)
        return
    found: list[object] = []
    resolved = dry_run(experiment, out, tell=found.append)
    tables = {part.title.lower(): part.to_json() for part in found if isinstance(part, Listing)}
    lines = [part for part in found if isinstance(part, str)]
    print_json({"experiment": resolved.model_dump(mode="json"), **tables, "lines": lines})


@app.command()
def report(
    run_folders: Annotated[
        list[Path], typer.Argument(help="Run folders; several are compared.", metavar="RUN...")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Page that compares several runs.", show_default=False),
    ] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Write report.html and report.md from what a run knows so far, or a page comparing runs."""
    from nas.reporting.compare import write_comparison
    from nas.reporting.report import write_report
    from nas.run.run_folder import RunFolder

    _remember(storage)
    folders = [RunFolder(path) for path in run_folders]
    if (len(folders) > 1) != (out is not None):
        raise ValueError(
            f"report: {len(folders)} run folder(s) and {'an' if out else 'no'} --out; one run has "
            "its report in its own folder, several are compared with --out compare.html"
        )
    if out is None:
        write_report(folders[0])
    else:
        write_comparison(folders, out)
    page = out or folders[0].report_html
    if as_json:
        print_json({"report": page})
        return
    print_line(f"report: {page}")


@app.command()
def export(
    run_folder: Run,
    out: Annotated[Path, typer.Option(help="Folder to write the models to.")],
    key: Annotated[
        str | None, typer.Option(help="Key of a candidate; default: the best known.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="largest or smallest, instead of a key.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="With --architecture: the format of every layer.", autocompletion=format_names
        ),
    ] = "fp32",
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Export candidates of a run, finished or not, as ONNX model folders."""
    from nas.pipeline import export as export_models
    from nas.run.progress import rich_reporter
    from nas.run.run_folder import RunFolder

    _remember(storage)
    with rich_reporter(progress_console(as_json)) as reporter:
        written = export_models(RunFolder(run_folder), out, key, architecture, precision, reporter)
    if as_json:
        print_json([{"model": path} for path in written])
        return
    for path in written:
        print_line(path)


@app.command()
def schema() -> None:
    """Print the JSON Schema of experiment files, for editors."""
    from nas.experiment.schema import Experiment

    print_json(Experiment.model_json_schema())


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="ONNX model.", metavar="MODEL.onnx")],
    against: Annotated[
        Path | None, typer.Option(help="Another model, measured alternately with the first.")
    ] = None,
    provider: Provider = "cpu",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Samples per inference.")] = 1,
    sequence: Annotated[int, typer.Option(help="Tokens per text.")] = 128,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels, for models that take any image size.")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="Size of any open axis: past_length=64, or x[0]=4 for the first axis of input x "
            "where it has no name. Repeatable.",
            metavar="AXIS=N",
            show_default=False,
        ),
    ] = None,
    repeats: Repeats = 90,
    as_json: AsJson = False,
) -> None:
    """Measure a model's latency, or two side by side, on random inputs."""
    import numpy as np

    from hardware.bench import bench as run_bench
    from hardware.bench import render
    from hardware.bench_inputs import parse_sizes
    from hardware.target import parse_target

    target = parse_target(
        provider=provider,
        threads=threads,
        batch_size=batch,
        sequence_length=sequence,
        image_size=image_size,
    )
    rng = np.random.default_rng(0)
    result = run_bench(
        model, target, against=against, repeats=repeats, sizes=parse_sizes(sizes or []), rng=rng
    )
    if as_json:
        print_json(asdict(result))
    else:
        print_shown(render(result))


@app.command()
def doctor(
    provider: Provider = "cpu",
    threads: Threads = 1,
    repeats: Repeats = 30,
    as_json: AsJson = False,
) -> None:
    """Show processor flags, providers, and how fast each format is on this machine."""
    import numpy as np

    from hardware.doctor import examine_machine, measure_formats, render
    from hardware.target import parse_target

    target = parse_target(provider=provider, threads=threads)
    table = measure_formats(target, repeats=repeats, rng=np.random.default_rng(0))
    machine = examine_machine()
    if as_json:
        speeds = {p: {f: asdict(latency) for f, latency in row.items()} for p, row in table.items()}
        print_json({**asdict(machine), "latency": speeds})
    else:
        print_shown(render(machine, table))


@app.command()
def verify(
    folder: Annotated[
        Path, typer.Argument(help="Model folder, models/<key>/ of a run.", metavar="MODEL_FOLDER")
    ],
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime, openvino, onnxruntime-node or onnxruntime-web; NAME@PLACE for one "
            "installed elsewhere (folder of `pip install --target` or an interpreter; folder of "
            "`npm install`). Repeatable; default: all that are found.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a model's stored samples in other runtimes and compare; a difference is an error."""
    from hardware.portability.agreement import problems, render, verify_folder
    from hardware.portability.runtimes import installed_runtimes, parse_runtime

    runtimes = [parse_runtime(name) for name in runtime] if runtime else installed_runtimes()
    found = verify_folder(folder, runtimes)
    if as_json:
        print_json([row.to_json() for row in found])
    else:
        print_shown(render(found))
    if wrong := problems(found):
        raise ValueError("\n".join(wrong))


def main() -> NoReturn:
    """Run the command; a user's mistake is one message and exit code 2."""
    # Threads of torch that wait by spinning slow a shared machine down several times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    switch_off()
    try:
        app(prog_name="simqnas")
    except (KeyboardInterrupt, Stopped):
        fail("stopped; run the same command again to continue", 130)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if os.environ.get("SIMQNAS_TRACEBACK"):
            raise
        fail(message(error), 2)
    sys.exit(0)


if __name__ == "__main__":
    main()
