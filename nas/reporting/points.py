"""What the page's picture shows: every measured candidate, and its drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hardware.formats.format import Format
from hardware.formats.registry import ordered
from nas.delivery.layer_profile import LayerProfile
from nas.delivery.results import Front, ValidatedModel
from nas.evaluation.candidate import Candidate
from nas.evaluation.record import Evaluation
from nas.experiment.metrics import METRICS, find_metric
from nas.reporting.drawing import genes_json, space_of, values_json
from supernets.space.space import SearchSpace

END_TO_END = "end_to_end_ms"
"""Of delivered models: what a request takes, preprocessing included."""
KNOWN = {"bytes": "weight_bytes", "macs": "macs", "ms": "milliseconds"}
"""What the page shows of a layer, by its field of `LayerProfile`; earlier versions knew no MACs."""
Profiles = Mapping[str, Mapping[str, LayerProfile]]
"""Exported model -> layer -> what it takes."""


def picture(
    front: Front,
    evaluations: Sequence[Evaluation],
    space: SearchSpace | None,
    profiles: Profiles,
    cards: Mapping[str, str],
) -> dict[str, Any]:
    """Axes, points, genes and formats, as plain values for the page's script.

    space: None where it is not known, then the genes that the models show. cards: of exported
    models, by name.
    """
    known = space or space_of([model.candidate for model in front.models])
    full = front.references[0].candidate if front.references else front.models[0].candidate
    models = {model.candidate.key: model for model in front.models}
    measured = {e.candidate.key: e for e in evaluations if e.failure is None}
    points = []
    for key, candidate in _candidates(models, measured).items():
        model = models.get(key)
        metrics = dict(measured[key].metrics) if key in measured else {}
        if model is not None:
            metrics.update(_validated(model, front))
        name = key if model is None else model.name
        profile = None if model is None else profiles.get(name)
        points.append(
            {
                "name": name,
                "role": "searched" if model is None else model.role,
                "metrics": metrics,
                "values": values_json(known, candidate),
                "formats": _by_format(candidate, profile),
                "layers": [] if profile is None else _in_order(profile),
                "card": cards.get(name, ""),
            }
        )
    return {
        "axes": _axes(points, front),
        "points": points,
        "genes": genes_json(known, full),
        "formats": [_format_json(entry) for entry in ordered()],
        "selected": front.recommended,
        "full": front.references[0].name if front.references else front.models[0].name,
    }


def _candidates(
    models: Mapping[str, ValidatedModel], measured: Mapping[str, Evaluation]
) -> dict[str, Candidate]:
    """Searched ones first, so that models are drawn over them."""
    searched = {key: e.candidate for key, e in measured.items() if key not in models}
    return searched | {key: model.candidate for key, model in models.items()}


def _validated(model: ValidatedModel, front: Front) -> dict[str, float]:
    """What was measured again at the end, in place of what the search saw."""
    values = {
        front.metric: model.validation_score,
        "latency_ms": model.latency_ms[0],
        "size_bytes": float(model.size_bytes),
    }
    if model.end_to_end_ms is not None:
        values[END_TO_END] = model.end_to_end_ms[0]
    return values


def _axes(points: Sequence[Mapping[str, Any]], front: Front) -> list[dict[str, Any]]:
    """Metrics that all points have, the front's own first, and what delivered models alone have."""
    shared = set.intersection(*(set(point["metrics"]) for point in points))
    first = [front.metric, "latency_ms", "size_bytes"]
    names = [*first, *(name for name in METRICS if name not in first)]
    axes = [
        {
            "name": name,
            "title": title_of(name),
            "larger": find_metric(name).direction == "maximize",
        }
        for name in names
        if name in shared
    ]
    if any(END_TO_END in point["metrics"] for point in points):
        axes.insert(2, {"name": END_TO_END, "title": title_of(END_TO_END), "larger": False})
    return axes


def title_of(name: str) -> str:
    """A metric in words, with its unit."""
    if name == END_TO_END:
        return "end-to-end latency (ms)"
    metric = find_metric(name)
    if metric.quality is not None:
        return f"validation {metric.quality.title}"
    words = name.removesuffix(f"_{metric.unit}").replace("_", " ") if metric.unit else name
    return f"{words} ({metric.unit})" if metric.unit else words


def _by_format(
    candidate: Candidate, profile: Mapping[str, LayerProfile] | None
) -> list[dict[str, Any]]:
    """Layers, and of an exported model bytes and time, by format; the rest under ''."""
    if profile is None:
        layers = Counter(entry.name for entry in candidate.policy.values())
        return [{"format": name, "layers": count} for name, count in sorted(layers.items())]
    found: dict[str, dict[str, Any]] = {}
    for layer in profile.values():
        row = found.setdefault(
            layer["format"], {"format": layer["format"], "layers": 0} | dict.fromkeys(KNOWN, 0.0)
        )
        row["layers"] += 1
        for name, field in KNOWN.items():
            value = layer.get(field)
            row[name] = None if value is None or row[name] is None else row[name] + value
    return [found[name] for name in sorted(found, key=lambda name: (name == "", name))]


def _in_order(profile: Mapping[str, LayerProfile]) -> list[dict[str, Any]]:
    """Every layer of an exported model as it is run, and the rest."""
    return [
        {"name": name, "format": layer["format"]}
        | {called: layer.get(field) for called, field in KNOWN.items()}
        for name, layer in profile.items()
    ]


def _format_json(entry: Format) -> dict[str, Any]:
    return {"name": entry.name, "bits": entry.bits}
