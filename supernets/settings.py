"""What an experiment file says about model, data, space and tuning; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from hardware.formats.precision import Precision
from supernets.presets import PRESETS

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Width = PositiveInt | Fraction
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
Precisions = Annotated[tuple[Precision, ...], Field(min_length=1)]

DEFAULT_PRECISION: dict[str, tuple[Precision, ...]] = {
    "*": (Precision.INT4, Precision.INT8, Precision.FP32)
}


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values cannot change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VitConfig(Settings):
    """Sizes of a vision transformer."""

    family: Literal["vit"] = "vit"
    image_size: PositiveInt = Field(32, description="Height and width of the input in pixels.")
    patch_size: PositiveInt = Field(4, description="Height and width of one patch in pixels.")
    channels: PositiveInt = Field(3, description="Channels of the input image.")
    embed_dim: PositiveInt = Field(96, description="Width of the residual stream.")
    depth: PositiveInt = Field(6, description="Number of transformer blocks.")
    num_heads: PositiveInt = Field(6, description="Attention heads per block.")
    hidden_dim: PositiveInt = Field(384, description="Neurons between the two MLP layers.")
    qkv_bias: bool = Field(True, description="Whether query, key and value have a bias.")
    layer_norm_eps: float = Field(1e-6, gt=0, description="Added to the variance in LayerNorm.")
    prefix_tokens: Literal[1, 2] = Field(
        1,
        description="Learned tokens before the patches: 1 class token, 2 with DeiT's distillation.",
    )
    head_tokens: Literal[1, 2] = Field(
        1, description="Prefix tokens the classifier reads; 2 averages DeiT's two classifiers."
    )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} must be divisible by num_heads {self.num_heads}"
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be divisible by patch_size {self.patch_size}"
            )
        if self.head_tokens > self.prefix_tokens:
            raise ValueError(
                f"head_tokens {self.head_tokens} exceeds prefix_tokens {self.prefix_tokens}"
            )
        return self


class BertConfig(Settings):
    """Sizes of a BERT."""

    family: Literal["bert"] = "bert"
    vocab_size: PositiveInt = Field(4096, description="Entries of the vocabulary.")
    max_positions: PositiveInt = Field(128, description="Most tokens a text may have.")
    token_types: PositiveInt = Field(2, description="Kinds of segments, two for text pairs.")
    embed_dim: PositiveInt = Field(128, description="Width of the residual stream.")
    depth: PositiveInt = Field(4, description="Number of transformer blocks.")
    num_heads: PositiveInt = Field(4, description="Attention heads per block.")
    hidden_dim: PositiveInt = Field(512, description="Neurons between the two MLP layers.")
    layer_norm_eps: float = Field(1e-12, gt=0, description="Added to the variance in LayerNorm.")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} must be divisible by num_heads {self.num_heads}"
            )
        return self


class ResNetConfig(Settings):
    """Sizes of a ResNet; the lists have one entry per stage."""

    family: Literal["resnet"] = "resnet"
    image_size: PositiveInt = Field(32, description="Height and width of the input in pixels.")
    channels: PositiveInt = Field(3, description="Channels of the input image.")
    block: Literal["basic", "bottleneck"] = Field(
        "basic", description="Two 3x3 convolutions, or 1x1, 3x3, 1x1."
    )
    stem_width: PositiveInt = Field(16, description="Output channels of the first convolution.")
    stem_kernel: Literal[3, 5, 7] = Field(3, description="Kernel size of the first convolution.")
    stem_stride: Literal[1, 2] = Field(1, description="Stride of the first convolution.")
    stem_pool: bool = Field(False, description="Max-pooling by two after the first convolution.")
    depths: tuple[PositiveInt, ...] = Field((2, 2, 2), description="Blocks per stage.")
    stage_widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64), description="Channels between the blocks of each stage."
    )
    inner_widths: tuple[PositiveInt, ...] = Field(
        (16, 32, 64), description="Channels inside the blocks of each stage."
    )
    first_stage_stride: Literal[1, 2] = Field(1, description="Stride of the first stage.")
    stride_in_first_conv: bool = Field(
        False, description="Bottleneck: the first 1x1 convolution has the stride, not the 3x3."
    )

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.depths)

    @property
    def block_kernels(self) -> tuple[int, ...]:
        """Kernel size of each convolution of a block."""
        return (3, 3) if self.block == "basic" else (1, 3, 1)

    def block_widths(self, stage: int, index: int) -> tuple[int, ...]:
        """Channels before, between and after the convolutions of a block."""
        before = self.stage_widths[stage]
        if index == 0:
            before = self.stage_widths[stage - 1] if stage else self.stem_width
        inner = [self.inner_widths[stage]] * (len(self.block_kernels) - 1)
        return (before, *inner, self.stage_widths[stage])

    def block_strides(self, stage: int, index: int) -> tuple[int, ...]:
        """Stride of each convolution of a block."""
        stride = 1 if index else 2 if stage else self.first_stage_stride
        if self.block == "basic":
            return (stride, 1)
        return (stride, 1, 1) if self.stride_in_first_conv else (1, stride, 1)

    def has_shortcut(self, stage: int, index: int) -> bool:
        """Whether a block changes width or resolution, so that its shortcut is a convolution."""
        widths, strides = self.block_widths(stage, index), self.block_strides(stage, index)
        return widths[0] != widths[-1] or max(strides) > 1

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> Self:
        lengths = {len(self.depths), len(self.stage_widths), len(self.inner_widths)}
        if lengths != {self.stages} or not self.stages:
            raise ValueError(
                "depths, stage_widths and inner_widths must have one entry per stage; given "
                f"{list(self.depths)}, {list(self.stage_widths)}, {list(self.inner_widths)}"
            )
        return self


class TrainSettings(Settings):
    """Plain training of one network: AdamW, linear warm-up, cosine decay to zero."""

    epochs: PositiveInt = Field(10, description="Passes over the training split.")
    batch_size: PositiveInt = Field(64, description="Training samples per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate of the schedule.")
    weight_decay: float = Field(
        0.05, ge=0, description="AdamW's decay; norms and biases are spared."
    )
    warmup_fraction: float = Field(
        0.1, ge=0, lt=1, description="Part of all steps in which the learning rate rises linearly."
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="Probability mass spread evenly over all classes."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to train; auto takes a GPU if there is one."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 computes matrix products in bfloat16; weights stay in FP32."
    )
    accumulate: PositiveInt = Field(
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

    epochs: PositiveInt = Field(3, description="Passes over the training split.")
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

    epochs: PositiveInt = Field(3, description="Passes over the training split.")
    learning_rate: float = Field(1e-4, gt=0, description="Highest learning rate of the schedule.")
    token_noise: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Part of a text's tokens replaced at random, half of them masked, half by "
        "others, so that the teacher answers about more texts than there are.",
    )
    block_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of what the outputs of its blocks leave unexplained of the teacher's "
        "(one minus R squared), added to the loss; the last block's is `feature_weight`'s.",
    )
    teacher: TeacherSettings | None = Field(
        None,
        description="Polish the full network first, on the same samples; it teaches as it then is "
        "if validation finds it better.",
    )


class TuneSettings(DistillSettings):
    """InstaTune: the super-network is made while fine-tuning (Sridhar et al. 2023)."""

    subnetworks: PositiveInt = Field(
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
    importance_batches: PositiveInt = Field(
        16, description="Training batches that measure the importance of heads, neurons and blocks."
    )


class ModelSettings(Settings):
    """The network to start from: a checkpoint, or a family's sizes to train from scratch."""

    checkpoint: str | None = Field(
        None,
        description="Hugging Face id, local folder with config.json and safetensors, or a "
        "safetensors file of a ResNet in torchvision's or timm's naming.",
    )
    vit: VitConfig | None = Field(None, description="A vision transformer from scratch.")
    bert: BertConfig | None = Field(None, description="A BERT from scratch.")
    resnet: ResNetConfig | None = Field(None, description="A ResNet from scratch.")
    head: Literal["auto", "keep", "new"] = Field(
        "auto",
        description="The checkpoint's classifier: kept if its labels are the data's, or always, or "
        "never.",
    )
    training: TrainSettings | None = Field(
        None,
        description="Plain training before tuning. Without a checkpoint it always happens, with "
        "one only if given.",
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        keys = ("checkpoint", "vit", "bert", "resnet")
        starts = [key for key in keys if getattr(self, key) is not None]
        if len(starts) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(keys)}; given: {', '.join(starts) or 'none'}"
            )
        return self


class DataSettings(Settings):
    """The classification data set."""

    name: str = Field(
        description="Built in: `digits`, `pydoc`. Else a local folder (parquet, csv, jsonl, or "
        "images in one folder per label) or a Hugging Face data set id.",
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
    text_column: str | None = Field(None, description="Column of the text; null: found.")
    text_pair_column: str | None = Field(None, description="Column of a second text, if any.")
    image_column: str | None = Field(None, description="Column of the image; null: found.")
    label_column: str | None = Field(None, description="Column of the label; null: found.")
    max_length: PositiveInt | None = Field(
        None, description="Longer texts are cut to so many tokens; null: what the model can take."
    )
    max_train: PositiveInt | None = Field(None, description="Use at most so many samples.")
    max_validation: PositiveInt | None = Field(None, description="Use at most so many samples.")
    max_test: PositiveInt | None = Field(None, description="Use at most so many samples.")
    image_size: PositiveInt | None = Field(
        None, description="Height and width images are resized to; null: what the model expects."
    )
    augment: bool = Field(
        True, description="Shift, scale and (except digits) flip training images at random."
    )
    skip_broken: bool = Field(
        False, description="Leave out images that cannot be decoded instead of stopping."
    )


class SpaceSettings(Settings):
    """Which sizes and precisions the search may choose from.

    A whole number is a size, a fraction (0.5, 1.0) a part of the network's own size. Null is the
    preset's choice, or without a preset the family's default.
    """

    preset: str | None = Field(
        None, description="A named space; fields given beside it replace the preset's."
    )
    depth: Widths | None = Field(None, description="Numbers of transformer blocks.")
    num_heads: Widths | None = Field(None, description="Attention heads per block.")
    hidden_dim: Widths | None = Field(None, description="MLP neurons per block.")
    embed_dim: Widths | None = Field(
        None, description="Widths of a ViT's residual stream; null: fixed."
    )
    resolution: Widths | None = Field(
        None, description="Input sizes of a ViT in pixels; null: fixed."
    )
    dropped_blocks: tuple[NonNegativeInt, ...] | None = Field(
        None, min_length=1, description="How many blocks a ResNet stage may lose: 0, 1, ..."
    )
    stage_width: Widths | None = Field(None, description="Channels of a ResNet stage.")
    inner_width: Widths | None = Field(None, description="Channels inside a residual block.")
    precision: dict[str, Precisions] | None = Field(
        None,
        description="Layer path pattern -> precisions; the last pattern that fits a layer counts, "
        "one precision alone locks it, a layer no pattern fits stays fp32. Null: int4, int8 and "
        "fp32 for every layer.",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset_alone(cls, value: object) -> object:
        return {"preset": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _preset_exists(self) -> Self:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"no preset is called {self.preset!r}; there are {', '.join(PRESETS)}")
        return self

    def resolved(self) -> SpaceSettings:
        """The preset's choices with the fields given beside it in their place."""
        if self.preset is None:
            return self
        own = self.model_dump(exclude_none=True, exclude={"preset"})
        return SpaceSettings.model_validate({**PRESETS[self.preset], **own})
