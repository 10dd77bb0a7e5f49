"""The `simqnas` command: its commands in the order of --help, and how a mistake ends.

What a command does, and its options, stand in `nas/command_line/` beside what it takes: an
experiment, the folder of a run, or a model. Frameworks are imported inside the commands.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from hardware.processors import limit_threads
from hardware.telemetry import switch_off
from nas.command_line import experiments, models, runs
from nas.command_line.output import EXIT_CODES, fail, message
from nas.run.interrupts import Stopped

SPINS = "20000"
"""A fifth of a millisecond about: longer than most threads wait for the others of a loop."""

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


for command in (
    experiments.init,
    experiments.run,
    experiments.worker,
    runs.show,
    runs.watch,
    experiments.check,
    runs.report,
    runs.export,
    experiments.schema,
    models.bench,
    models.doctor,
    models.verify,
):
    app.command()(command)


def _set_how_threads_wait() -> None:
    """Of torch: asleep, as spinning slows a shared machine down several times over, but with GNU
    OpenMP a short while awake, see `supernets/training/waiting.py`."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def main() -> NoReturn:
    """Run the command; a user's mistake is one message and exit code 2."""
    limit_threads()
    _set_how_threads_wait()
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
