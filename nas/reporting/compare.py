"""Several runs on one page: what each ends in, and how they were made differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hardware.files import write_atomically
from nas.ledger.study import read_evaluations
from nas.reporting.facts import Report
from nas.reporting.page import picture_of, render
from nas.reporting.texts import columns, flat, recommendation, row
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import read_experiment

MOST_RUNS = 5
"""Runs that one picture can tell apart by colour."""


class ComparisonError(ValueError):
    """These runs cannot be compared."""


def write_comparison(folders: Sequence[RunFolder], out: Path) -> None:
    """Write a page that compares runs, finished or not.

    Raises ComparisonError for runs of different metrics or too many of them, RunFolderError or
    NotMeasuredError for one that has nothing to compare yet.
    """
    if len(folders) > MOST_RUNS:
        raise ComparisonError(
            f"report: {len(folders)} runs are given, one page compares at most {MOST_RUNS}"
        )
    reports = []
    for folder in folders:
        experiment = read_experiment(folder)
        reports.append(Report.of(experiment, folder, read_evaluations(experiment, folder)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, comparison(reports))


def comparison(reports: Sequence[Report]) -> str:
    """The page. Raises ComparisonError for runs of different metrics."""
    metrics = {report.title: report.front.metric for report in reports}
    if len(set(metrics.values())) > 1:
        told = ", ".join(f"{title}: {metric}" for title, metric in metrics.items())
        raise ComparisonError(f"report: the runs are judged by different metrics ({told})")
    names = [f"{n}. {report.title}" for n, report in enumerate(reports, 1)]
    return render(
        "compare.html.jinja",
        names=names,
        reports=reports,
        pictures=[
            {**picture_of(report), "title": name}
            for name, report in zip(names, reports, strict=True)
        ],
        recommendations=[recommendation(report.front) for report in reports],
        tables=[
            (columns(r.front), [(m.name, row(m, r.front)) for m in r.front.models]) for r in reports
        ],
        differences=_differences(reports),
    )


def _differences(reports: Sequence[Report]) -> list[tuple[str, ...]]:
    """(condition, its value in every run), of those in which they differ."""
    known = [_conditions(report) for report in reports]
    names = dict.fromkeys(name for conditions in known for name in conditions)
    rows = [(name, *(conditions.get(name, "-") for conditions in known)) for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _conditions(report: Report) -> dict[str, str]:
    found = dict(flat(report.settings)) | dict(flat(report.front.conditions))
    if report.data is not None:
        found |= {f"rows of {name}": str(of.used) for name, of in report.data.splits.items()}
    return found
