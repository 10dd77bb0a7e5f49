"""Commands about the folder of a run: show, watch, report, export.

Frameworks are imported inside the commands, so that --help is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.command_line.options import AsJson, Run, Storage, format_names
from nas.command_line.output import console, print_json, print_line, progress_console


def show(
    run_folder: Run,
    csv: Annotated[bool, typer.Option("--csv", help="Print the evaluations as CSV.")] = False,
    as_json: AsJson = False,
    storage: Storage = None,
) -> None:
    """Print stage, progress, the best so far and failures of a run, finished or not."""
    from nas.reporting.run_status import Overview
    from nas.run.run_folder import RunFolder

    overview = Overview.of(RunFolder(run_folder))
    if as_json:
        print_json(overview.to_json())
    elif csv:
        typer.echo(overview.to_csv(), nl=False)
    else:
        for line in overview.lines():
            print_line(line)


def watch(
    run_folder: Run,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 5.0,
    storage: Storage = None,
) -> None:
    """Show a run that works elsewhere until it is finished: its stages, minutes left, the best."""
    from nas.reporting.run_status import watch as watch_run
    from nas.run.run_folder import RunFolder

    watch_run(RunFolder(run_folder), console, every)


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

    with rich_reporter(progress_console(as_json)) as reporter:
        written = export_models(RunFolder(run_folder), out, key, architecture, precision, reporter)
    if as_json:
        print_json([{"model": path} for path in written])
        return
    for path in written:
        print_line(path)
