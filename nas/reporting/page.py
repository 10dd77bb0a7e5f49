"""report.html: one self-contained page; nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nas.experiment.metrics import find_metric
from nas.reporting.charts import Chart, line_chart, scatter_of_equals
from nas.reporting.facts import Report, code_of
from nas.reporting.halves import COLUMNS as HALF_COLUMNS
from nas.reporting.halves import halves
from nas.reporting.needs import needs_of
from nas.reporting.offers import judged_by
from nas.reporting.points import picture, title_of
from nas.reporting.search_history import Step, steps_of
from nas.reporting.texts import columns, disturbance, flat, recommendation, row, runtimes
from nas.search.predictor_report import PredictorReport
from supernets.space.space import PRECISION_SUFFIX

SHOWN_GENES = 12
"""Genes that are listed per metric, those with the largest effect."""


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; whatever is inserted is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(**values)


def html(report: Report) -> str:
    """The report as a page."""
    front, steps = report.front, steps_of(report.evaluations, report.objectives)
    return render(
        "report.html.jinja",
        report=report,
        front=front,
        picture=picture_of(report),
        recommendation=recommendation(front),
        needs=needs_of(front),
        codes={model.name: code_of(report.cards.get(model.name, "")) for model in front.models},
        judged_by=judged_by(front),
        disturbance=disturbance(front),
        runtimes=runtimes(front),
        columns=columns(front),
        rows=[(model.name, row(model, front)) for model in front.models],
        progress=_progress(steps),
        found=_found(report, steps),
        matters=[_Matters.of(name, report) for name in report.effects],
        predictor_columns=PredictorReport.COLUMNS,
        predictor_rows=[p.row() for p in report.predictors],
        predictor_charts=[_honesty(p) for p in report.predictors if p.measured],
        coverage=[(model.name, model.coverage) for model in front.models],
        halves=halves(front),
        half_columns=HALF_COLUMNS,
        conditions=flat(front.conditions),
        command=f"simqnas run {quote(f'{report.folder}/experiment.yaml')} --out runs/again",
    )


def picture_of(report: Report) -> dict[str, Any]:
    """What the page's script draws of a run."""
    drawn = picture(report.front, report.evaluations, report.space, report.profiles, report.cards)
    return {"title": report.title, **drawn}


def _progress(steps: Sequence[Step]) -> list[Chart]:
    """Hypervolume over evaluations, and over minutes where times were kept."""
    if len(steps) < 2:
        return []
    covered = "covered of the final hypervolume"
    by_number = [(float(step.number), step.hypervolume) for step in steps]
    charts = [line_chart("Search progress by evaluations", "evaluations", covered, by_number)]
    timed = [(step.minutes, step.hypervolume) for step in steps if step.minutes is not None]
    if len(timed) == len(steps):
        title = "Search progress by minutes of measuring"
        charts.append(line_chart(title, "minutes of measuring", covered, timed))
    return charts


def _found(report: Report, steps: Sequence[Step]) -> list[tuple[str, str, str]]:
    """Front model, evaluation and minute in which it was found."""
    when = {step.key: step for step in steps}
    rows = []
    for model in report.front.front:
        step = when.get(model.candidate.key)
        if step is not None:
            minutes = "-" if step.minutes is None else f"{step.minutes:.1f}"
            rows.append((model.name, f"{step.number} of {len(steps)}", minutes))
    return rows


def _honesty(report: PredictorReport) -> Chart:
    points = list(zip(report.measured, report.predicted, strict=True))
    title = f"{report.metric}: predicted and measured"
    return scatter_of_equals(title, "measured", "predicted without having seen it", points)


@dataclass(frozen=True)
class _Matters:
    """What matters to one metric: genes by their effect, and layers by format.

    believed: whether predictions of the metric are better than guessing, True where it is computed.
    genes: (name, largest change between choices, share of the largest, by which choice).
    formats: those that layers may have but the widest. layers: (layer, change in each).
    """

    title: str
    believed: bool
    computed: bool
    genes: list[tuple[str, str, float, str]]
    formats: list[str]
    layers: list[tuple[str, ...]]

    @classmethod
    def of(cls, metric: str, report: Report) -> _Matters:
        known = {p.metric: p.predictor.beats_baselines for p in report.predictors}
        effects = report.effects[metric]
        genes = sorted(effects, key=lambda gene: -_range(effects[gene]))[:SHOWN_GENES]
        largest = max((_range(effects[gene]) for gene in genes), default=0.0) or 1.0
        layers = {g: e for g, e in effects.items() if g.endswith(PRECISION_SUFFIX)}
        formats = list(dict.fromkeys(name for e in layers.values() for name in list(e)[:-1]))
        return cls(
            title=title_of(metric),
            believed=known.get(metric, True),
            computed=metric not in known,
            genes=[
                (
                    g,
                    f"{_range(effects[g]):.3g}",
                    _range(effects[g]) / largest,
                    _worst(metric, effects[g]),
                )
                for g in genes
            ],
            formats=formats,
            layers=[
                (gene.removesuffix(PRECISION_SUFFIX), *(_change(e, name) for name in formats))
                for gene, e in layers.items()
            ],
        )


def _range(effect: Mapping[str, float]) -> float:
    return max(effect.values()) - min(effect.values())


def _worst(metric: str, effect: Mapping[str, float]) -> str:
    """From its best to its worst choice."""
    ranked = sorted(effect, key=lambda choice: find_metric(metric).sign * effect[choice])
    return f"{ranked[0]} best, {ranked[-1]} worst"


def _change(effect: Mapping[str, float], name: str) -> str:
    return f"{effect[name]:+.3g}" if name in effect else "-"
