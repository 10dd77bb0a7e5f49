"""The experiment: everything one YAML file says, typed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from hardware.formats.scheme import QuantScheme
from hardware.portability.runtimes import runtime_named
from hardware.settings import Settings
from hardware.target import Target
from nas.experiment.duration import parse_duration, readable_duration
from nas.experiment.metrics import METRICS, Metric, find_metric, find_quality
from nas.experiment.objectives import Constraint, Cost, check_consistent, parse_constraint
from nas.experiment.search_settings import SearchSettings
from supernets.families.registry import FAMILIES, family
from supernets.metrics.metric import Quality
from supernets.metrics.registry import QUALITIES
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, PolishSettings, SpaceSettings, TuneSettings
from supernets.space.dimensions import unknown
from supernets.tasks.registry import TASKS, task_named

TaskName = Annotated[
    str, Field(json_schema_extra={"enum": list(TASKS)}), AfterValidator(task_named)
]


class TargetSettings(Target):
    """The device the models are for, and how they are served there."""

    allow_fallback: bool = Field(
        False,
        description="Ship models of which a layer ran in float or on another provider than asked, "
        "and report it, instead of refusing them.",
    )


def _runtime(text: str) -> str:
    """Whether it is there is found out on the machine that runs."""
    runtime_named(text)
    return text


class ExportSettings(Settings):
    """What is written at the end."""

    models: int = Field(8, ge=1, le=1000, description="At most this many models of the front.")
    accuracy_drop: float | None = Field(
        None,
        ge=0,
        description="The recommended model is the fastest (or the smallest, where objectives name "
        "size and no latency) that is at most this much worse on validation than the fully INT8 "
        "reference, in the metric's own unit; null: 0.005, of the reference's value where less is "
        "better.",
    )
    opset: int | None = Field(
        None,
        ge=13,
        le=23,
        description="ONNX operator set of the models; null: the oldest that says the same, which "
        "loads in ONNX Runtime 1.16. From 23 on, attention is one operator: small transformers run "
        "a tenth faster, in ONNX Runtime 1.23 and later.",
    )
    verify: tuple[Annotated[str, AfterValidator(_runtime)], ...] = Field(
        (),
        description="Runtimes in which every exported model is run on stored samples: onnxruntime, "
        "openvino, onnxruntime-node, onnxruntime-web; NAME@PLACE for one installed elsewhere. One "
        "that answers otherwise than here is not recommended. Without any: the onnxruntime here.",
    )
    triton: bool = Field(
        False, description="Write config.pbtxt and 1/model.onnx, as NVIDIA Triton serves a folder."
    )
    transformers_js: bool = Field(
        False, description="Write onnx/model_quantized.onnx too, where transformers.js looks."
    )


class Experiment(Settings):
    """A simqnas experiment file."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=100,
        description="Name of the run; results go to runs/<name>.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of every random choice.")
    effort: Literal["quick", "standard", "thorough"] = Field(
        "standard",
        description="How long to train and to search where the file does not say it: about a "
        "quarter of standard, standard, three times as long.",
    )
    budget: Annotated[str, AfterValidator(readable_duration)] | None = Field(
        None,
        description="Wall clock that the run may take on this machine: 30 min, 2 h, 90 s. What the "
        "file does not say is fitted to it; `effort` then is the most, not the measure.",
    )
    model: ModelSettings = Field(description="The checkpoint to start from.")
    data: DataSettings = Field(description="The data set.")
    task: TaskName | None = Field(
        None, description="What is asked about a sample; null: told by the data and the checkpoint."
    )
    metric: Annotated[str, AfterValidator(lambda name: find_quality(name).name)] | None = Field(
        None,
        json_schema_extra={"examples": list(QUALITIES)},
        description="What says how good a model is: by it models are recommended. Null: the first "
        "such objective, or the task's own. Your own: package.module:function.",
    )
    space: SpaceSettings = Field(
        default_factory=SpaceSettings, description="What the search may change."
    )
    tune: TuneSettings = Field(
        default_factory=TuneSettings, description="How the super-network is fine-tuned."
    )
    search: SearchSettings = Field(
        default_factory=SearchSettings, description="How candidates are found."
    )
    objectives: tuple[
        Annotated[
            str,
            Field(json_schema_extra={"examples": list(METRICS)}),
            AfterValidator(lambda name: find_metric(name).name),
        ],
        ...,
    ] = Field(
        ("accuracy", "latency_ms", "size_bytes"), min_length=1, description="What is traded off."
    )
    constraints: tuple[str, ...] = Field(
        (),
        description="Limits on metrics, absolute or relative to a reference row: "
        "'size_bytes <= 8 MB', 'accuracy >= int8 - 0.005'.",
    )
    target: TargetSettings = Field(
        default_factory=TargetSettings, description="Where the models will run."
    )
    quantization: QuantScheme = Field(
        default_factory=QuantScheme,
        validate_default=True,
        description="How low precision is realised.",
    )
    evaluate: Literal["onnxruntime", "torch"] = Field(
        "onnxruntime",
        description="Accuracy during the search: of the exported model in ONNX Runtime (exact), "
        "or of its fake-quantized twin in torch (batched). The final front is always exact.",
    )
    export: ExportSettings = Field(
        default_factory=ExportSettings, description="What is written at the end."
    )

    polish: PolishSettings | None = Field(
        None,
        description="Fine-tune every chosen sub-network alone, its policy fake-quantized, before "
        "it is exported; what validation then finds worse by more than a standard error is "
        "exported as it was found.",
    )
    trials: bool = Field(
        False,
        description="Try what tune and polish leave open (learning rates, token noise, weights of "
        "features and blocks, whether the teacher is polished first) in short trainings, judged on "
        "validation, before the long ones.",
    )
    storage: str | None = Field(
        None,
        pattern=r"^(postgresql|mysql|sqlite)(\+[a-z0-9]+)?://",
        description="Database URL of the ledger, such as postgresql://user@host/name; null: a "
        "journal file in the run folder. A password belongs into $SIMQNAS_STORAGE or ~/.pgpass.",
    )
    artifacts: str | None = Field(
        None,
        min_length=1,
        description="Where model files travel between machines: a folder that all of them see, or "
        "s3://bucket; null: in the run folder.",
    )
    isolate: bool = Field(
        False,
        description="Evaluate candidates in a process of its own, so that one that is killed for "
        "its memory fails alone.",
    )

    @field_validator("space")
    @classmethod
    def _dimensions_exist(cls, space: SpaceSettings) -> SpaceSettings:
        """What the family at hand cannot vary is told once its network is known."""
        names = [d.name for name in FAMILIES for d in family(name).dimensions]
        fields = [*SpaceSettings.model_fields, *dict.fromkeys(names)]
        wrong = unknown(space.dimensions, fields)
        if wrong:
            raise ValueError("; ".join(wrong))
        return space

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """The JSON schema, every family's dimensions included."""
        schema = super().model_json_schema(*args, **options)
        space = schema["$defs"]["SpaceSettings"]
        values = space.pop("additionalProperties")
        for name in FAMILIES:
            for dimension in family(name).dimensions:
                told = {"description": dimension.description, "default": None}
                anything = {"anyOf": [values, {"type": "null"}]}
                space["properties"].setdefault(dimension.name, anything | told)
        space["additionalProperties"] = False
        return schema

    @field_validator("objectives")
    @classmethod
    def _differ(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(objectives)) != len(objectives):
            raise ValueError("objectives repeat; name each once")
        return objectives

    @field_validator("constraints")
    @classmethod
    def _hold_together(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        check_consistent([parse_constraint(text) for text in constraints])
        return constraints

    @field_validator("quantization")
    @classmethod
    def _in_the_targets_style(cls, scheme: QuantScheme, known: ValidationInfo) -> QuantScheme:
        """`linear: auto` becomes the style that the target's provider runs best."""
        if scheme.linear != "auto" or "target" not in known.data:
            return scheme
        return scheme.with_linear(known.data["target"].runs_on.linear)

    @model_validator(mode="after")
    def _target_has_the_kernels(self) -> Self:
        provider, scheme = self.target.runs_on, self.quantization
        for name, given, allowed in (
            ("linear", scheme.linear, provider.linears),
            ("int4_kernel", scheme.int4_kernel, provider.int4_kernels),
        ):
            if allowed and given != "auto" and given not in allowed:
                raise ValueError(
                    f"quantization.{name}: {given} has no kernel on target {self.target.provider}; "
                    f"allowed are {', '.join(allowed)}"
                )
        return self

    @model_validator(mode="after")
    def _drop_is_no_percentage(self) -> Self:
        drop, metric = self.export.accuracy_drop or 0.0, self.quality
        if drop > 1 and metric.direction == "maximize" and metric.name in QUALITIES:
            raise ValueError(
                f"export.accuracy_drop: {drop:g} is more than all of {metric.name}, which is a "
                f"part of 1; for {drop:g} points write {drop / 100:g}"
            )
        return self

    @model_validator(mode="after")
    def _references_are_measured(self) -> Self:
        rows = [row.name for row in self.target.references]
        for text in self.constraints:
            parse_constraint(text, rows)
        return self

    @property
    def quality(self) -> Quality:
        """What says how good a model is."""
        if self.metric is not None:
            return find_quality(self.metric)
        named = (metric.quality for metric in self.parsed_objectives())
        return next((metric for metric in named if metric is not None), QUALITIES["accuracy"])

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """Everything of that kind that is measured: also what objectives and constraints name."""
        limited = (find_metric(constraint.metric) for constraint in self.parsed_constraints())
        named = (metric.quality for metric in (*self.parsed_objectives(), *limited))
        return tuple(dict.fromkeys([self.quality, *(m for m in named if m is not None)]))

    @property
    def cost(self) -> Cost:
        """What a recommended model has least of: latency, or size where that alone is asked for."""
        by_size = "size_bytes" in self.objectives and "latency_ms" not in self.objectives
        return "size_bytes" if by_size else "latency_ms"

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else parse_duration(self.budget)

    def parsed_objectives(self) -> tuple[Metric, ...]:
        """The objectives with direction and unit."""
        return tuple(find_metric(name) for name in self.objectives)

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints, parsed. Raises ValueError for one that cannot be read."""
        return tuple(parse_constraint(text) for text in self.constraints)
