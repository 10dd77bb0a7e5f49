"""What an experiment file says about model, data, space and tuning; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from hardware.formats.registry import FormatName
from hardware.settings import Settings
from supernets.presets import PRESETS

Kind = Literal["image", "text"]
"""What a sample has."""

Count = Annotated[int, Field(gt=0, le=1_000_000)]
"""Of epochs, samples in a step, tokens or pixels; what is larger is no number but a mistake."""
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


def _size(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One sentence for whatever is wrong; `true` is no number."""
    try:
        return check(str(value) if isinstance(value, bool) else value)
    except ValidationError:
        raise ValueError(
            "must be a whole number from 0 on, or a fraction above 0 and at most 1.0"
        ) from None


Width = Annotated[NonNegativeInt | Fraction, WrapValidator(_size)]
Value = Annotated[
    Annotated[Width, Tag("a-number")] | Annotated[str, Tag("a-name")],
    Discriminator(lambda value: "a-name" if isinstance(value, str) else "a-number"),
]
"""Of a dimension; told apart first, so that a mistake in a number says nothing about names."""
Values = Annotated[tuple[Value, ...], Field(min_length=1)]
Columns = Annotated[tuple[str, ...], Field(min_length=1)]
TwoColumns = Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
Precisions = Annotated[tuple[FormatName, ...], Field(min_length=1)]

DEFAULT_PRECISION: dict[str, tuple[str, ...]] = {"*": ("int4", "int8", "fp32")}


class TrainSettings(Settings):
    """Plain training of one network: AdamW, linear warm-up, cosine decay to zero."""

    epochs: Count = Field(10, description="Passes over the training split.")
    batch_size: Count = Field(64, description="Training samples per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate of the schedule.")
    relative_rates: bool = Field(
        False,
        description="Weights that are small beside 0.05 learn slower in proportion, so that a "
        "checkpoint's small ones are not overwritten.",
    )
    weight_decay: float = Field(
        0.05, ge=0, description="AdamW's decay; norms and biases are spared."
    )
    warmup_fraction: float = Field(
        0.1, ge=0, lt=1, description="Part of all steps in which the learning rate rises linearly."
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="Probability mass spread evenly over all classes."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: rare classes (or labels, or tags) count as much as frequent ones in "
        "the loss.",
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=True,
        description="Gradients are scaled down to this norm; .inf: never.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to train; auto takes a GPU if there is one."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 computes matrix products in bfloat16; weights stay in FP32."
    )
    accumulate: Count = Field(
        1,
        description="Parts a batch is computed in, to save memory; the result is the same, but "
        "for networks with BatchNorm, whose statistics are then those of a part.",
    )


class DistillSettings(TrainSettings):
    """Training on the labels and on a teacher's answers."""

    hard_label_weight: float = Field(
        0.3, ge=0, le=1, description="Weight of the cross-entropy; distillation gets the rest."
    )
    temperature: float = Field(
        1.0, gt=0, description="Softens both sides of the distillation loss."
    )
    feature_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the cosine distance to what the teacher's classifier reads, added "
        "to the loss.",
    )


class TeacherSettings(Settings):
    """Fine-tuning of the full network before it teaches; all else is as for its students."""

    epochs: Count = Field(3, description="Passes over the training split.")
    learning_rate: float = Field(1e-4, gt=0, description="Highest learning rate of the schedule.")
    hard_label_weight: float = Field(
        0.7,
        ge=0,
        le=1,
        description="Weight of the cross-entropy; the rest are its own answers so far.",
    )
    block_weight: float = Field(
        0.0, ge=0, description="As `polish.block_weight`, of its own blocks' outputs so far."
    )


class PolishSettings(DistillSettings):
    """Fine-tuning of one sub-network under its own policy, with the full network as teacher."""

    epochs: Count = Field(3, description="Passes over the training split.")
    learning_rate: float = Field(1e-4, gt=0, description="Highest learning rate of the schedule.")
    token_noise: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Part of a text's tokens replaced at random, half of them masked, half by "
        "others, so that the network reads more texts than there are; the teacher reads them as "
        "they were.",
    )
    block_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of what the outputs of its blocks leave unexplained of the teacher's "
        "(one minus R squared), added to the loss; the last block's is `feature_weight`'s.",
    )
    probes: int = Field(
        0,
        ge=0,
        le=10,
        description="Candidates polished early in the search, from two on, from which is foretold "
        "what all the others will score after it: they are then judged by that.",
    )
    teacher: TeacherSettings | None = Field(
        None,
        description="Polish the full network first, on the same samples; it teaches as it then is "
        "if validation finds it better.",
    )


class TuneSettings(DistillSettings):
    """InstaTune: the super-network is made while fine-tuning (Sridhar et al. 2023)."""

    subnetworks: Count = Field(
        1, description="Sub-networks drawn per step beside the full network (M in InstaTune)."
    )
    teacher: bool = Field(
        False,
        description="Distil from a frozen copy of the network before tuning, not from the full "
        "network in training.",
    )
    quantization_aware: bool = Field(
        False, description="Draw a precision policy with each sub-network and train under it."
    )
    importance_batches: Count = Field(
        16, description="Training batches that measure the importance of heads, neurons and blocks."
    )


class DataSettings(Settings):
    """The data set."""

    name: str = Field(
        pattern=r"\S",
        description="Built in: `digits`, `pydoc`. Else a local folder or file (csv, tsv, json, "
        "jsonl, parquet), images in one folder per label, or a Hugging Face data set id.",
    )
    loader: str | None = Field(
        None,
        description="Your own function, package.module:function: it is given `name` and returns "
        "the splits, {train: rows, ...}; rows are records, or a data set of the library datasets.",
    )
    config: str | None = Field(None, description="Configuration of the data set, `sst2` of `glue`.")
    train_split: str | None = Field(None, description="Split to train on; null: found by name.")
    validation_split: str | None = Field(
        None, description="Split the search judges by; null: found by name, else part of train."
    )
    test_split: str | None = Field(
        None, description="Split of the final table; null: found by name, else part of train."
    )
    holdout: float = Field(
        0.1, gt=0, lt=0.5, description="Part of train set aside for each split that is missing."
    )
    kept_back: float = Field(
        0.3,
        ge=0,
        le=0.8,
        description="Part of validation that nothing is chosen by, on which models are compared "
        "with the INT8 reference; where it would be under 30 samples nothing is kept back, and "
        "promises owe something to the luck of the best of many.",
    )
    text_column: str | None = Field(None, description="Column of the text; null: found.")
    text_pair_column: str | None = Field(None, description="Column of a second text, if any.")
    image_column: str | TwoColumns | None = Field(
        None,
        description="Column of the image; of texts about two images a list of both columns. Null: "
        "found.",
    )
    join_column: str | None = Field(
        None,
        description="Column by which rows of one table find their image in another table of a "
        "local folder, or among its files by their names, such as image_id; null: images stand "
        "beside the labels.",
    )
    label_column: str | Columns | None = Field(
        None,
        description="Column of the label; of several labels a row the column of lists, or a list "
        "of columns that hold 0 or 1. Null: found.",
    )
    encoding: str | None = Field(
        None,
        description="In what text files are written: latin-1, cp1252, shift_jis, ...; null: UTF-8, "
        "or what a mark at their beginning says.",
    )
    max_length: Count | None = Field(
        None,
        description="Longer texts are cut to so many tokens; null: what model and tokenizer take.",
    )
    max_train: PositiveInt | None = Field(None, description="Use at most so many samples.")
    max_validation: PositiveInt | None = Field(None, description="Use at most so many samples.")
    max_test: PositiveInt | None = Field(None, description="Use at most so many samples.")
    image_size: Count | None = Field(
        None, description="Height and width images are resized to; null: what the model expects."
    )
    augment: bool = Field(
        True, description="Shift, scale and (except digits) flip training images at random."
    )
    skip_broken: bool = Field(
        False, description="Leave out images that cannot be decoded instead of stopping."
    )

    def most(self, split: str) -> int | None:
        """How many samples of a split are used at most."""
        limits = {"train": self.max_train, "validation": self.max_validation, "test": self.max_test}
        return limits[split]

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError:
            raise ValueError(
                f"Python knows no encoding {value!r}; known are latin-1, cp1252, shift_jis, ..."
            ) from None
        return value


class SpaceSettings(Settings):
    """Which sizes and precisions the search may choose from.

    Beside these fields stand the family's dimensions. A whole number is a size, a fraction (0.5,
    1.0) a part of the network's own size, a name a choice without order. Null is the preset's
    choice, or without a preset the family's default.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Values] = Field(init=False)

    preset: str | None = Field(
        None, description="A named space; fields given beside it replace the preset's."
    )
    precision: dict[str, Precisions] | None = Field(
        None,
        description="Layer path pattern -> precisions; the last pattern that fits a layer counts, "
        "one precision alone locks it, a layer no pattern fits stays fp32. Null: int4, int8 and "
        "fp32 for every layer.",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_alone(cls, value: object) -> object:
        if isinstance(value, str):
            return {"preset": value}
        if isinstance(value, dict):  # null is the default, for a dimension as for a field
            return {name: given for name, given in value.items() if given is not None}
        return value

    @model_validator(mode="after")
    def _preset_exists(self) -> Self:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"no preset is called {self.preset!r}; there are {', '.join(PRESETS)}")
        return self

    @property
    def dimensions(self) -> Mapping[str, tuple[float | str, ...]]:
        """Values given for dimensions, by their names."""
        return self.__pydantic_extra__

    def resolved(self) -> SpaceSettings:
        """The preset's choices with the fields given beside it in their place."""
        if self.preset is None:
            return self
        own = self.model_dump(exclude_none=True, exclude={"preset"})
        return SpaceSettings.model_validate({**PRESETS[self.preset], **own})
