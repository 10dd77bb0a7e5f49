"""report.md and report.html: the front, the recommendation, and why to believe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from hardware.files import write_atomically
from nas.delivery.markdown import markdown_text
from nas.delivery.results import Front, ValidatedModel, mark, read_front
from nas.delivery.selection import provisional_front
from nas.delivery.serving import runs_in
from nas.evaluation.baselines import low_reference
from nas.evaluation.record import Evaluation
from nas.experiment.schema import Experiment
from nas.ledger.study import read_evaluations
from nas.reporting.offers import judged_by, offer_columns, offer_rows
from nas.run.data_record import read_account
from nas.run.run_folder import RunFolder, read_json
from nas.run.saved_experiment import read_experiment
from nas.search.predictor_report import PredictorReport
from supernets.data.account import DataAccount


@dataclass(frozen=True)
class Report:
    """Everything a report shows.

    title: the experiment's name. data: None for a run of version 0.1.0, which kept no account.
    """

    title: str
    front: Front
    evaluations: Sequence[Evaluation]
    predictors: Sequence[PredictorReport]
    finished: bool
    data: DataAccount | None = None


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
    """The same of a ledger that is read: of the validated front, or the best so far."""
    front = read_front(folder)
    finished = front is not None and front.evaluations == len(evaluations)
    if front is None or not finished:
        front = provisional_front(evaluations, experiment)
    kept = read_json(folder.predictors) if folder.predictors.exists() else []
    predictors = [PredictorReport.from_json(entry) for entry in kept]
    account = read_account(folder)
    report = Report(experiment.name, front, evaluations, predictors, finished, account)
    write_atomically(folder.report_markdown, markdown(report))
    write_atomically(folder.report_html, html(report))


def columns(front: Front) -> tuple[str, ...]:
    """Headers of the front's table."""
    metric = front.quality.title
    return (
        "model",
        f"test {metric}",
        "validation",
        "latency ms (quartiles)",
        "size kB",
        *(f"vs {reference.name}: {metric}, faster, smaller" for reference in front.references),
        "layers by precision",
    )


def row(model: ValidatedModel, front: Front) -> tuple[str, ...]:
    """One model as cells under `columns`."""
    median, low, high = model.latency_ms
    marks = " (recommended)" if model.name == front.recommended else ""
    marks += " (differs in another runtime)" if model.differs else ""
    kinds = Counter(precision.name for precision in model.candidate.policy.values())
    return (
        model.name + marks,
        _share(model.test_accuracy),
        _validation(model),
        f"{median:.3f}{_star(model.latency_disturbed)} ({low:.3f}-{high:.3f})",
        f"{model.size_bytes / 1000:.1f}",
        *(_versus(model, reference.name) for reference in front.references),
        ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
    )


def _validation(model: ValidatedModel) -> str:
    before = model.unpolished_accuracy
    polished = "" if before is None else f" ({before:.4f} before polishing)"
    return f"{model.validation_accuracy:.4f}{polished}"


def _share(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.4f}"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:.4g}" if size < 1e6 else f"{size / 1000:,.0f}"


def _versus(model: ValidatedModel, reference: str) -> str:
    if model.name == reference or reference not in model.versus:
        return "-"
    versus = model.versus[reference]
    difference = versus.accuracy_difference
    ratio, size = versus.latency_ratio, versus.size_ratio
    return f"{difference:+.3f} {ratio:.3g}x{_star(versus.latency_disturbed)} {size:.3g}x"


def _star(disturbed: bool) -> str:
    return "*" if disturbed else ""


def disturbance(front: Front) -> str:
    """What the stars of a table mean, empty where it has none."""
    marks = [model.latency_disturbed for model in front.models]
    marks += [v.latency_disturbed for model in front.models for v in model.versus.values()]
    if not any(marks):
        return ""
    return (
        "* disturbed: other work interrupted too many of the runs, and nothing is ranked by this "
        "figure where there is an undisturbed one; `simqnas bench MODEL --against OTHER` measures "
        "again once the machine is idle."
    )


def runtimes(front: Front) -> list[str]:
    """Where the models run, told once for all that agree alike; then what differs or fails."""
    told: dict[str, list[str]] = {}
    for model in front.models:
        told.setdefault(runs_in(model.agreements), []).append(model.name)
    lines = [f"{', '.join(names)}: {text}" for text, names in told.items() if text]
    return [*lines, *front.runtime_problems()] or ["not measured in any other"]


def front_table(front: Front) -> Table:
    """The front and the references for a terminal of 80 columns."""
    table = Table(
        title="Pareto front, measured in ONNX Runtime",
        caption=f"vs: difference in test {front.quality.title}, times faster, times smaller\n"
        + disturbance(front),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("model", no_wrap=True)
    references = [reference.name for reference in front.references]
    for column in ("test", "ms", "kB", *(f"vs {name}" for name in references)):
        table.add_column(column, justify="right", no_wrap=True)
    for model in front.models:
        chosen = model.name == front.recommended
        table.add_row(
            model.name,
            _share(model.test_accuracy),
            f"{model.latency_ms[0]:.3g}{_star(model.latency_disturbed)}",
            _kilobytes(model.size_bytes),
            *(_versus(model, name) for name in references),
            style="bold green" if chosen else None,
        )
    return table


def recommendation(front: Front) -> str:
    """One sentence that names a model and says what it gains."""
    model, metric = front.model(front.recommended), front.quality.title
    if model.role == "reference":
        others = sum(other.latency_disturbed for other in front.front)
        aside = f" ({others} could not be timed undisturbed and may be faster)" if others else ""
        return (
            f"No measured model that is as good is faster than `{model.name}`{aside}; take that "
            "one."
        )
    low = low_reference(reference.name for reference in front.references)
    versus = model.versus[low]
    disturbed = mark(versus.latency_disturbed)
    if model.test_accuracy is None:
        return (
            f"Best so far is `{model.name}`: {versus.latency_ratio:.2f}x lower latency{disturbed} "
            f"and {versus.size_ratio:.2f}x smaller than the fully {low.upper()} network, "
            f"validation {metric} {model.validation_accuracy:.4f} "
            f"({versus.accuracy_difference:+.4f})."
        )
    return (
        f"Take `{model.name}`: {versus.latency_ratio:.2f}x lower latency (95 % interval "
        f"{versus.latency_ratio_low:.2f} to {versus.latency_ratio_high:.2f}){disturbed} and "
        f"{versus.size_ratio:.2f}x smaller than the fully {low.upper()} network, test {metric} "
        f"{model.test_accuracy:.4f} ({versus.accuracy_difference:+.4f})."
    )


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
    if report.data is not None:
        lines += ["", "## Data", ""]
        lines += [*_markdown_table(DataAccount.COLUMNS, report.data.rows()), ""]
        lines += [f"- {markdown_text(remark)}" for remark in report.data.remarks()]
    lines += ["", "## Conditions", ""]
    lines += [f"- {markdown_text(f'{name}: {value}')}" for name, value in _flat(front.conditions)]
    return "\n".join(lines) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(map(markdown_text, cells)) + " |" for cells in rows]


def html(report: Report) -> str:
    """The report as one self-contained page; nothing is loaded from elsewhere."""
    from jinja2 import Environment, FileSystemLoader
    from plotly.offline import get_plotlyjs

    from nas.reporting.plots import precision_map, predicted_and_measured, trade_off

    front = report.front
    figures = [
        trade_off(front, report.evaluations, "latency_ms", "latency (ms)"),
        trade_off(front, report.evaluations, "size_bytes", "size (bytes)"),
        precision_map(front.models),
        *(predicted_and_measured(p) for p in report.predictors if p.measured),
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        report=report,
        plotly=get_plotlyjs(),
        plots=[f.to_html(full_html=False, include_plotlyjs=False) for f in figures],
        recommendation=recommendation(front),
        offer_columns=offer_columns(front),
        offer_rows=offer_rows(front),
        judged_by=judged_by(front),
        disturbance=disturbance(front),
        runtimes=runtimes(front),
        columns=columns(front),
        rows=[row(model, front) for model in front.models],
        chosen=[model.name for model in front.models].index(front.recommended),
        predictor_columns=PredictorReport.COLUMNS,
        predictor_rows=[p.row() for p in report.predictors],
        coverage=[(model.name, model.coverage) for model in front.models],
        conditions=_flat(front.conditions),
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as `outer.inner` names with printable values."""
    flat: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            flat.append((prefix + name, text))
    return flat
