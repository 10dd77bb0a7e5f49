"""simqnas for those who script: `search`, `check` and `load_run`.

    from nas.api import search

    run = search("experiment.yaml")
    print(run.recommended, run.model())

An experiment is a file, the same sections as a dict, or an `Experiment` with typed settings. The
command line calls these functions; what they take and give stays as it is until version 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware.portability.agreement import ready_runtimes
from hardware.telemetry import switch_off
from nas.experiment.load import ExperimentError, experiment_of, load_experiment
from nas.experiment.schema import Experiment
from nas.run.run_folder import RunFolder, RunFolderError

if TYPE_CHECKING:  # torch takes seconds to import, and is not installed where models are measured
    from nas.delivery.results import Front
    from nas.evaluation.record import Evaluation
    from nas.run.progress import Reporter

__all__ = ["Experiment", "ExperimentError", "Run", "RunFolderError", "check", "load_run", "search"]


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it, finished or not.

    experiment: with every value that was left open filled in.
    evaluations: everything that was measured so far, failures included.
    front: the validated models, None before the run has come so far.
    """

    folder: Path
    experiment: Experiment
    evaluations: Sequence[Evaluation]
    front: Front | None

    @property
    def recommended(self) -> str:
        """Name of the model to take. Raises RunFolderError before there is one."""
        return self.validated.recommended

    def model(self, name: str | None = None) -> Path:
        """Folder of an exported model; without a name of the recommended one.

        Raises RunFolderError for a name that is not of this run's front, or before there is one.
        """
        names = [model.name for model in self.validated.models]
        chosen = name or self.recommended
        if chosen not in names:
            raise RunFolderError(
                f"{self.folder}: has no model {chosen!r}; there are {', '.join(names)}"
            )
        return RunFolder(self.folder).model(chosen)

    @property
    def report(self) -> Path:
        """The report for a browser, written at the end, by a stop and by `simqnas report`."""
        return RunFolder(self.folder).report_html

    @property
    def validated(self) -> Front:
        """The front. Raises RunFolderError before there is one."""
        if self.front is None:
            raise RunFolderError(f"{self.folder}: has no validated models yet; search continues it")
        return self.front


def search(
    experiment: Experiment | Mapping[str, Any] | Path | str,
    out: Path | str | None = None,
    *,
    workers: int | None = None,
    latency_elsewhere: bool = False,
    source: Path | str | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Tune, search, validate, export and report; continues what the run folder already holds.

    out: the run folder; None: runs/<name>.
    workers: processes that evaluate candidates, 0 leaves that to `simqnas worker` elsewhere; None:
    this process. latency_elsewhere: latency comes from `simqnas worker --measure latency`.
    source: run folder of the same super-network, whose weights and scores this run starts from.
    reporter: what is told of progress; None: bars and lines on standard error.

    Raises ValueError for what a user can put right, before anything expensive starts. A process of
    torchrun that does not lead helps to train, and gets the run as it was then.
    """
    given = _experiment(experiment)
    from nas.pipeline import assist, run
    from nas.run.saved_experiment import read_experiment
    from supernets.training.distributed import Ranks

    folder = _folder(given, out)
    leads = Ranks.of_environment().leads
    with _bars(quiet=not leads) if reporter is None else nullcontext(reporter) as shown:
        if leads:
            ready_runtimes(given.export.verify)
            begun = RunFolder(Path(source)) if source is not None else None
            run(given, folder, shown, workers, latency_elsewhere, begun)
        else:
            assist(given, folder, shown)
    # The kept experiment has no password of a database; what was given has.
    return _read(folder, read_experiment(folder).model_copy(update={"storage": given.storage}))


def check(
    experiment: Experiment | Mapping[str, Any] | Path | str,
    out: Path | str | None = None,
    *,
    tell: Callable[[Any], object] | None = None,
) -> Experiment:
    """Validate an experiment without training; returns it with all that was left open filled in.

    tell: is given each finding: lines of text, and two tables (`nas.run.listing.Listing`).
    Raises ValueError for anything that would stop the run, unreachable constraints included.
    """
    given = _experiment(experiment)
    ready_runtimes(given.export.verify)  # before torch is imported, which takes seconds
    from nas.dry_run import admit, ignore

    _, recipe = admit(given, _folder(given, out), tell=tell or ignore)
    return recipe.experiment


def load_run(folder: Path | str) -> Run:
    """Read a run folder, finished or not. Raises RunFolderError where there is none."""
    from nas.run.saved_experiment import read_experiment

    place = RunFolder(Path(folder))
    return _read(place, read_experiment(place))


def _read(place: RunFolder, experiment: Experiment) -> Run:
    from nas.delivery.results import read_front
    from nas.ledger.study import read_evaluations

    try:
        evaluations = read_evaluations(experiment, place)
    except RunFolderError:  # nothing is measured yet
        evaluations = []
    return Run(place.path, experiment, evaluations, read_front(place))


def _experiment(given: Experiment | Mapping[str, Any] | Path | str) -> Experiment:
    """With its ledger where $SIMQNAS_STORAGE says, as the command line has it."""
    switch_off()
    from nas.run.saved_experiment import at_storage

    if isinstance(given, Mapping):
        given = experiment_of(_copied(given), Path.cwd(), "experiment")
    elif not isinstance(given, Experiment):
        given = load_experiment(Path(given))
    return at_storage(given)


def _copied(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Paths are made absolute in place: not in what the caller holds."""
    return {k: dict(v) if isinstance(v, Mapping) else v for k, v in sections.items()}


def _folder(experiment: Experiment, out: Path | str | None) -> RunFolder:
    return RunFolder(Path(out) if out else Path("runs") / experiment.name)


def _bars(quiet: bool) -> AbstractContextManager[Reporter]:
    from rich.console import Console

    from nas.run.progress import rich_reporter

    return rich_reporter(Console(file=sys.stderr, quiet=quiet))
