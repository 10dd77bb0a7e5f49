"""What the terminal and both reports say of a front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nas.delivery.results import Front, ValidatedModel, mark, smaller
from nas.delivery.serving import runs_in


def columns(front: Front) -> tuple[str, ...]:
    """Headers of the front's table."""
    metric = front.quality.title
    return (
        "model",
        f"test {metric}",
        "validation",
        "latency ms (quartiles)",
        *(["end to end ms"] if _whole_requests(front) else []),
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
        _score(model.test_score),
        _validation(model),
        f"{median:.3f}{_star(model.latency_disturbed)} ({low:.3f}-{high:.3f})",
        *([_end_to_end(model)] if _whole_requests(front) else []),
        f"{model.size_bytes / 1000:.1f}",
        *(_versus(model, reference.name) for reference in front.references),
        ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
    )


def _whole_requests(front: Front) -> bool:
    """Whether models were timed with their preprocessing."""
    return any(model.end_to_end_ms is not None for model in front.models)


def _end_to_end(model: ValidatedModel) -> str:
    if model.end_to_end_ms is None:
        return "-"
    return f"{model.end_to_end_ms[0]:.3f}{_star(model.end_to_end_disturbed)}"


def _validation(model: ValidatedModel) -> str:
    before = model.unpolished_score
    polished = "" if before is None else f" ({before:.4f} before polishing)"
    return f"{model.validation_score:.4f}{polished}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _kilobytes(size: int) -> str:
    return f"{size / 1000:.4g}" if size < 1e6 else f"{size / 1000:,.0f}"


def _versus(model: ValidatedModel, reference: str) -> str:
    if model.name == reference or reference not in model.versus:
        return "-"
    versus = model.versus[reference]
    difference = versus.score_difference
    ratio, size = versus.latency_ratio, versus.size_ratio
    return f"{difference:+.3f} {ratio:.3g}x{_star(versus.latency_disturbed)} {size:.3g}x"


def _star(disturbed: bool) -> str:
    return "*" if disturbed else ""


def disturbance(front: Front) -> str:
    """What the stars of a table mean, empty where it has none."""
    marks = [model.latency_disturbed for model in front.models]
    marks += [model.end_to_end_disturbed for model in front.models]
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
            _score(model.test_score),
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
        return f"No measured model is as good as `{model.name}` and cheaper{aside}; take that one."
    low = front.low
    versus = model.versus[low]
    disturbed = mark(versus.latency_disturbed)
    if model.test_score is None:
        return (
            f"Best so far is `{model.name}`: {versus.latency_ratio:.2f}x lower latency{disturbed} "
            f"and {smaller(versus.size_ratio)} than the fully {low.upper()} network, "
            f"validation {metric} {model.validation_score:.4f} "
            f"({versus.score_difference:+.4f})."
        )
    return (
        f"Take `{model.name}`: {versus.latency_ratio:.2f}x lower latency (95 % interval "
        f"{versus.latency_ratio_low:.2f} to {versus.latency_ratio_high:.2f}){disturbed} and "
        f"{smaller(versus.size_ratio)} than the fully {low.upper()} network, test {metric} "
        f"{model.test_score:.4f} ({versus.score_difference:+.4f})."
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as `outer.inner` names with printable values."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            found.append((prefix + name, text))
    return found
