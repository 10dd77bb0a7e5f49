"""report.md: the report as text."""

from __future__ import annotations

from collections.abc import Sequence

from nas.delivery.markdown import markdown_table, markdown_text
from nas.reporting.facts import Report
from nas.reporting.halves import COLUMNS, halves
from nas.reporting.offers import judged_by, offer_columns, offer_rows
from nas.reporting.texts import columns, disturbance, flat, recommendation, row, runtimes
from nas.run.trial_record import Trials
from nas.search.predictor_report import PredictorReport
from supernets.data.account import DataAccount


def markdown(report: Report) -> str:
    """The report as text."""
    front = report.front
    lines = [f"# {markdown_text(report.title)}", "", recommendation(front), ""]
    if not report.finished:
        lines += [f"The run is not finished: {front.evaluations} candidates measured so far.", ""]
    if front.offers:
        lines += ["## What to take", ""]
        lines += _markdown_table(offer_columns(front), offer_rows(front))
        lines += ["", markdown_text(judged_by(front)), "", "## Front", ""]
    lines += _markdown_table(columns(front), [row(model, front) for model in front.models])
    if stars := disturbance(front):
        lines += ["", markdown_text(stars)]
    lines += ["", "## Runtimes", "", *(f"- {markdown_text(line)}" for line in runtimes(front))]
    lines += ["", "## Predictors", ""]
    lines += _markdown_table(PredictorReport.COLUMNS, [p.row() for p in report.predictors])
    lines += ["", "## Quantized layers", ""]
    lines += [f"- {markdown_text(f'{model.name}: {model.coverage}')}" for model in front.models]
    for section, trials in report.trials.items():
        lines += ["", f"## Tried settings of {section}", ""]
        lines += [*_markdown_table(Trials.COLUMNS, trials.cells()), "", trials.judged_by()]
    if rows := halves(front):
        lines += ["", "## Images and texts", "", *_markdown_table(COLUMNS, rows)]
    if report.data is not None:
        lines += ["", "## Data", ""]
        lines += [*_markdown_table(DataAccount.COLUMNS, report.data.rows()), ""]
        lines += [f"- {markdown_text(remark)}" for remark in report.data.remarks()]
    lines += ["", "## Conditions", ""]
    lines += [f"- {markdown_text(f'{name}: {value}')}" for name, value in flat(front.conditions)]
    return "\n".join(lines) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return markdown_table(columns, ([markdown_text(cell) for cell in cells] for cells in rows))
