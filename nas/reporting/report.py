"""report.md and report.html of a run."""

from __future__ import annotations

from collections.abc import Sequence

from hardware.files import write_atomically
from nas.evaluation.record import Evaluation
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.reporting.facts import Report
from nas.reporting.markdown_report import markdown
from nas.reporting.page import html
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment


def write_report(folder: RunFolder) -> None:
    """Write the report of a run, finished or not.

    Raises RunFolderError or NotMeasuredError before there is something to compare with.
    """
    folder.refuse_links()
    experiment = read_experiment(folder)
    write_reports(experiment, folder, read_evaluations(experiment, folder))


def write_reports(
    experiment: Experiment, folder: RunFolder, evaluations: Sequence[Evaluation]
) -> None:
    """The same of a ledger that is read."""
    report = Report.of(experiment, folder, evaluations)
    write_atomically(folder.report_markdown, markdown(report))
    write_atomically(folder.report_html, html(report))
