"""front.json: the validated models, as they were measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from hardware.portability.agreement import Agreement, problems
from nas.delivery.promise import Offer, Promise
from nas.evaluation.baselines import low_reference
from nas.evaluation.candidate import Candidate
from nas.experiment.metrics import find_quality
from nas.run.run_folder import RunFolder, read_json
from supernets.metrics.metric import Quality


def _as_named_today(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a front.json of version 0.1.0, where a score of any metric was called accuracy."""
    return {re.sub(r"(_|^)accuracy(_|$)", r"\1score\2", name): data[name] for name in data}


def mark(disturbed: bool) -> str:
    """What stands behind a latency, or a ratio of two, that other work had a part in."""
    return " (disturbed by other work)" if disturbed else ""


def smaller(ratio: float) -> str:
    """How many times smaller a file is; of one that is larger, how many times that."""
    return f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"


@dataclass(frozen=True)
class Versus:
    """A model beside a reference, measured alternately.

    score_difference: the front's metric on test minus the reference's; on validation before
    export. score_low, score_high: its interval of 95 %, of the same test samples.
    latency_ratio: the reference's latency over the model's, with its 95 % interval.
    latency_disturbed: other work interrupted too many runs for the ratio to be relied on.
    size_ratio: the reference's bytes over the model's.
    """

    score_difference: float
    latency_ratio: float
    latency_ratio_low: float
    latency_ratio_high: float
    size_ratio: float
    latency_disturbed: bool = False
    score_low: float | None = None
    score_high: float | None = None


@dataclass(frozen=True)
class ValidatedModel:
    """One exported model and everything that was measured of it.

    latency_ms: (median, first quartile, third quartile).
    latency_disturbed: other work interrupted too many runs; nothing is ranked by the figure.
    end_to_end_ms: the same from a raw text or picture on; None where that was not measured.
    validation_score, test_score: values of the front's metric; the latter is None, and coverage
    empty, before the model is exported.
    unpolished_score: the former before polishing, None where nothing was polished.
    coverage: one sentence on which layers are really quantized in the written graph.
    agreements: its stored samples in each runtime that was asked for, beside the measured model.
    promise: how it compares with the reference in low precision, None before it is exported.
    """

    name: str
    role: Literal["front", "reference"]
    candidate: Candidate
    validation_score: float
    test_score: float | None
    latency_ms: tuple[float, float, float]
    size_bytes: int
    coverage: str
    versus: Mapping[str, Versus]
    unpolished_score: float | None = None
    latency_disturbed: bool = False
    agreements: tuple[Agreement, ...] = ()
    promise: Promise | None = None
    end_to_end_ms: tuple[float, float, float] | None = None
    end_to_end_disturbed: bool = False

    @property
    def differs(self) -> bool:
        """Whether a runtime gives other logits than were measured, and no error."""
        return any(not row.agrees and row.failure is None for row in self.agreements)

    @property
    def polished(self) -> bool:
        """Whether its weights are its own, better ones than the super-network's."""
        before = self.unpolished_score
        return before is not None and self.validation_score > before

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        fields = asdict(self)
        fields["candidate"] = self.candidate.to_json()
        fields["key"] = self.candidate.key
        fields["agreements"] = [row.to_json() for row in self.agreements]
        fields["model"] = f"models/{self.name}/model.onnx"
        return fields

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        data = _as_named_today(data)
        values = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        values["candidate"] = Candidate.from_json(data["candidate"])
        values["latency_ms"] = tuple(data["latency_ms"])
        if values.get("end_to_end_ms") is not None:
            values["end_to_end_ms"] = tuple(values["end_to_end_ms"])
        values["agreements"] = tuple(map(Agreement.from_json, data.get("agreements", ())))
        promise = data.get("promise")
        values["promise"] = None if promise is None else Promise(**promise)
        values["versus"] = {
            name: Versus(**_as_named_today(fields)) for name, fields in data["versus"].items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Front:
    """The outcome of a run.

    models: the front, fastest first, then the references.
    recommended: name of the model that is offered at no loss.
    offers: the model for every need; none before models are exported.
    evaluations: how many candidates had been measured when the front was taken.
    conditions: target, processor, versions, repeats. metric: what says how good a model is.
    """

    models: tuple[ValidatedModel, ...]
    recommended: str
    evaluations: int
    conditions: Mapping[str, Any]
    metric: str = "accuracy"
    offers: tuple[Offer, ...] = ()

    @property
    def quality(self) -> Quality:
        """The metric itself."""
        return find_quality(self.metric)

    @property
    def front(self) -> tuple[ValidatedModel, ...]:
        """The models to take home, fastest first."""
        return tuple(model for model in self.models if model.role == "front")

    @property
    def references(self) -> tuple[ValidatedModel, ...]:
        """The largest network in FP32 and in INT8."""
        return tuple(model for model in self.models if model.role == "reference")

    @property
    def low(self) -> str:
        """Name of the reference in low precision."""
        return low_reference(model.name for model in self.references)

    def runtime_problems(self) -> list[str]:
        """A line for every model and runtime that differs from the measurement, or does not run."""
        return [
            f"{model.name}: {problem}"
            for model in self.models
            for problem in problems(model.agreements)
        ]

    def model(self, name: str) -> ValidatedModel:
        """Look a model up by its name."""
        return next(model for model in self.models if model.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return {
            "recommended": self.recommended,
            "metric": self.metric,
            "offers": [offer.to_json() for offer in self.offers],
            "evaluations": self.evaluations,
            "conditions": dict(self.conditions),
            "models": [model.to_json() for model in self.models],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        models = tuple(ValidatedModel.from_json(entry) for entry in data["models"])
        known = {name: data[name] for name in ("recommended", "evaluations", "conditions")}
        offers = tuple(map(Offer.from_json, data.get("offers", ())))
        return cls(models, **known, metric=data.get("metric", "accuracy"), offers=offers)


def read_front(folder: RunFolder) -> Front | None:
    """The validated front, None before there is one or when a model of it is missing or cut off."""
    if not folder.front.exists():
        return None
    front = Front.from_json(read_json(folder.front))
    sizes = {folder.model(model.name) / "model.onnx": model.size_bytes for model in front.models}
    whole = all(path.exists() and path.stat().st_size == size for path, size in sizes.items())
    return front if whole else None
