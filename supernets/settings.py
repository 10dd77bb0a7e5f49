"""What an experiment file says about model, data, space and tuning; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from hardware.precision import Precision

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Width = PositiveInt | Fraction
Widths = Annotated[tuple[Width, ...], Field(min_length=1)]
Precisions = Annotated[tuple[Precision, ...], Field(min_length=1)]


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


class TuneSettings(TrainSettings):
    """InstaTune: the super-network is made while fine-tuning (Sridhar et al. 2023)."""

    subnetworks: PositiveInt = Field(
        1, description="Sub-networks drawn per step beside the full network (M in InstaTune)."
    )
    hard_label_weight: float = Field(
        0.3, ge=0, le=1, description="Weight of the cross-entropy; distillation gets the rest."
    )
    temperature: float = Field(
        1.0, gt=0, description="Softens both sides of the distillation loss."
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
        None, description="Hugging Face id or local folder with config.json and safetensors."
    )
    vit: VitConfig | None = Field(None, description="A vision transformer from scratch.")
    training: TrainSettings | None = Field(
        None,
        description="Plain training before tuning. Without a checkpoint it always happens, with "
        "one only if given.",
    )

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        starts = [key for key in ("checkpoint", "vit") if getattr(self, key) is not None]
        if len(starts) != 1:
            raise ValueError(
                f"give exactly one of checkpoint, vit; given: {', '.join(starts) or 'none'}"
            )
        return self


class DataSettings(Settings):
    """The classification data set."""

    name: str = Field(description="`digits`, a Hugging Face data set id or a local folder.")
    augment: bool = Field(True, description="Shift and turn training images a little.")


class SpaceSettings(Settings):
    """Which sizes and precisions the search may choose from.

    A whole number is a size, a fraction (0.5, 1.0) a part of the network's own size.
    """

    depth: Widths = Field((0.5, 0.67, 0.83, 1.0), description="Numbers of blocks.")
    num_heads: Widths = Field((0.5, 0.75, 1.0), description="Attention heads per block.")
    hidden_dim: Widths = Field((0.25, 0.5, 0.75, 1.0), description="MLP neurons per block.")
    precision: dict[str, Precisions] = Field(
        default={"*": (Precision.INT4, Precision.INT8, Precision.FP32)},
        description="Layer path pattern -> precisions; the last pattern that fits a layer counts, "
        "one precision alone locks it, and a layer no pattern fits stays fp32.",
    )
