"""The report's figures."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from hardware.formats.registry import ordered
from nas.delivery.results import Front, ValidatedModel
from nas.evaluation.record import Evaluation
from nas.search.predictor_report import PredictorReport

FRONT, REFERENCE, SEARCHED = "#0b6e4f", "#c1121f", "#b8c0c8"
SMALL_TO_LARGE = "#0b6e4f", "#69b578", "#d9c872", "#dd8447"
"""Colours of the formats; further ones lie between."""


def trade_off(front: Front, evaluations: Sequence[Evaluation], cost: str, title: str) -> go.Figure:
    """The metric against one cost: everything measured, the front and the references."""
    figure = go.Figure()
    measured = [e for e in evaluations if e.failure is None]
    figure.add_scatter(
        x=[e.metrics[cost] for e in measured],
        y=[e.metrics[front.metric] for e in measured],
        text=[e.candidate.key for e in measured],
        mode="markers",
        name="measured (validation)",
        marker={"color": SEARCHED, "size": 6},
    )
    for group, name, color in (
        (front.front, "front", FRONT),
        (front.references, "reference", REFERENCE),
    ):
        figure.add_scatter(
            x=[_cost(model, cost) for model in group],
            y=[model.validation_accuracy for model in group],
            text=[model.name for model in group],
            mode="markers+text" if name == "reference" else "markers",
            textposition="top center",
            name=name,
            marker={"color": color, "size": 11},
        )
    figure.update_layout(
        title=f"{front.quality.title.capitalize()} and {title}",
        xaxis_title=title,
        yaxis_title=f"validation {front.quality.title}",
    )
    return _styled(figure)


def _cost(model: ValidatedModel, cost: str) -> float:
    return model.latency_ms[0] if cost == "latency_ms" else float(model.size_bytes)


def predicted_and_measured(report: PredictorReport) -> go.Figure:
    """Held-out predictions of one metric against its measurements."""
    low, high = min(report.measured), max(report.measured)
    figure = go.Figure()
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", name="equal", line={"color": SEARCHED}
    )
    figure.add_scatter(
        x=list(report.measured),
        y=list(report.predicted),
        mode="markers",
        name="held out",
        marker={"color": FRONT},
    )
    figure.update_layout(
        title=f"{report.metric}: predicted and measured",
        xaxis_title="measured",
        yaxis_title="predicted without having seen it",
    )
    return _styled(figure)


def precision_map(models: Sequence[ValidatedModel]) -> go.Figure:
    """Which layer of which model runs at which precision; blank where the layer is dropped."""
    layers = list(dict.fromkeys(layer for m in models for layer in m.candidate.policy))
    layers.sort(key=_natural)
    levels = ordered()
    rows = [
        [
            None
            if layer not in model.candidate.policy
            else levels.index(model.candidate.policy[layer])
            for layer in layers
        ]
        for model in models
    ]
    steps = len(levels)
    scale = [
        (edge / steps, colour)
        for i, colour in enumerate(sample_colorscale(SMALL_TO_LARGE, steps))
        for edge in (i, i + 1)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=rows,
            x=layers,
            y=[model.name for model in models],
            zmin=-0.5,
            zmax=steps - 0.5,
            colorscale=scale,
            xgap=1,
            ygap=2,
            colorbar={"tickvals": list(range(steps)), "ticktext": [entry.name for entry in levels]},
        )
    )
    figure.update_layout(title="Precision of every layer", xaxis={"tickangle": 60})
    figure.update_yaxes(type="category", autorange="reversed")
    return _styled(figure, height=220 + 30 * len(models))


def _natural(path: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.split(".")]


def _styled(figure: go.Figure, height: int = 420) -> go.Figure:
    figure.update_layout(template="plotly_white", height=height, margin={"t": 50, "b": 50})
    return figure
