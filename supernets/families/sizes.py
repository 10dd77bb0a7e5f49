"""Sizes of a network as an experiment file gives them; free of torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hardware.settings import Settings
from supernets.settings import Kind
from supernets.space.space import RESOLUTION, Architecture, size_in

Size = Annotated[int, Field(gt=0, le=2**24)]
"""Rows or columns of a tensor; what is larger is no size but a mistake."""

MOST_BLOCKS = 1000
Depth = Annotated[int, Field(gt=0, le=MOST_BLOCKS)]
"""A number of blocks."""


class Sizes(Settings, ABC):
    """Sizes of one family's networks."""

    family: str

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of what the network takes."""

    @property
    @abstractmethod
    def kinds(self) -> tuple[Kind, ...]:
        """What the family can be given of a sample."""

    @property
    def sample(self) -> tuple[Kind, ...]:
        """What this network is given of a sample."""
        return self.kinds

    def given(self, kinds: tuple[Kind, ...]) -> Self:
        """Sizes of the network for samples of these kinds, in their order."""
        return self

    @abstractmethod
    def shrunk(self, architecture: Architecture) -> Self:
        """The nearest sizes to a sub-network's: of those that differ between blocks the largest."""


class ImageSizes(Sizes):
    """Sizes of a family that reads images."""

    image_size: Size = Field(32, description="Height and width of the input in pixels.")
    channels: Size = Field(3, description="Channels of the input image.")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Images alone."""
        return ("pixel_values",)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Images alone."""
        return ("image",)

    @property
    def image_multiple(self) -> int:
        """What heights and widths of images must be a multiple of."""
        return 1


class StagedSizes(ImageSizes):
    """Sizes of a convolutional network; the lists have one entry per stage."""

    per_stage: ClassVar[tuple[str, ...]] = ("depths", "stage_widths")
    depths: tuple[Depth, ...] = Field((2, 2, 2), description="Blocks per stage.")
    stage_widths: tuple[Size, ...] = Field(
        (16, 32, 64), description="Channels between the blocks of each stage."
    )

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.depths)

    @property
    def blocks(self) -> dict[str, int]:
        """Module path of every block -> its stage."""
        return {path: stage for stage in range(self.stages) for path in self.blocks_of(stage)}

    def blocks_of(self, stage: int) -> list[str]:
        """Module paths of a stage's blocks."""
        return [f"stages.{stage}.{index}" for index in range(self.depths[stage])]

    def shrunk(self, architecture: Architecture) -> Self:
        """Blocks and widths of the stages are the sub-network's."""

        def sizes(what: str, full: Sequence[int]) -> tuple[int, ...]:
            genes = [f"stages.{stage}.{what}" for stage in range(self.stages)]
            return tuple(map(partial(size_in, architecture), genes, full))

        update = {
            "depths": sizes("depth", self.depths),
            "stage_widths": sizes("width", self.stage_widths),
        }
        return self.model_copy(update=update)

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> Self:
        lists = [list(getattr(self, name)) for name in self.per_stage]
        if {len(entries) for entries in lists} != {self.stages} or not self.stages:
            raise ValueError(
                f"{', '.join(self.per_stage[:-1])} and {self.per_stage[-1]} must have one entry "
                f"per stage; given {', '.join(map(str, lists))}"
            )
        if sum(self.depths) > MOST_BLOCKS:
            raise ValueError(
                f"depths add up to {sum(self.depths):,} blocks; a network has at most {MOST_BLOCKS}"
            )
        return self


class TextSizes(Sizes):
    """Sizes of a family that reads texts."""

    vocab_size: Size = Field(4096, description="Entries of the vocabulary.")
    max_positions: Size = Field(128, description="Most tokens a text may have.")

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of the embedding that each input of ids picks from."""
        return {"input_ids": self.vocab_size}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Ids, which of them are no padding, and further ids that pick from an embedding."""
        return ("input_ids", "attention_mask", *list(self.rows)[1:])

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Texts alone."""
        return ("text",)

    @property
    def padding(self) -> int | None:
        """The id at which positions are not counted, where they begin after it; None: at 0."""
        return None


class TransformerSizes(Sizes):
    """Sizes of a stack of equal transformer blocks."""

    embed_dim: Size = Field(128, description="Width of the residual stream.")
    depth: Depth = Field(4, description="Number of transformer blocks.")
    num_heads: Size = Field(4, description="Attention heads per block.")
    hidden_dim: Size = Field(512, description="Neurons between the two MLP layers.")
    layer_norm_eps: float = Field(1e-12, gt=0, description="Added to the variance in LayerNorm.")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

    def parts(self, index: int) -> tuple[str, ...]:
        """Parts of a block that have heads and neurons of their own, as its paths go on."""
        return ("",)

    def shrunk(self, architecture: Architecture) -> Self:
        """Depth and stream width are the sub-network's; heads stay, as they keep their width."""
        genes = [gene for gene in architecture if gene.endswith(".hidden_dim")]
        hidden = [size_in(architecture, gene, self.hidden_dim) for gene in genes]
        sizes = {
            "embed_dim": size_in(architecture, "embed_dim", self.embed_dim),
            "depth": size_in(architecture, "depth", self.depth),
            "hidden_dim": max(hidden, default=self.hidden_dim),
        }
        return self.model_copy(update=sizes)

    @model_validator(mode="after")
    def _heads_fill_the_stream(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} must be divisible by num_heads {self.num_heads}"
            )
        return self


class ImageTransformerSizes(ImageSizes, TransformerSizes):
    """Sizes of a stack of pre-norm blocks that reads images in patches.

    Properties say how the families differ; here they are those of the plain vision transformer.
    """

    patch_size: Size = Field(16, description="Height and width of one patch in pixels.")
    layer_norm_eps: float = Field(1e-6, gt=0, description="Added to the variance in LayerNorm.")

    @property
    def prefix(self) -> int:
        """Learned tokens before the patches."""
        return 1

    @property
    def pooling(self) -> Literal["first", "mean", "both"]:
        """What the classifier reads: first tokens, the mean of the patches, or both in turn."""
        return "first"

    @property
    def pooled_vectors(self) -> int:
        """How many vectors as wide as the stream the classifier reads."""
        return 2 if self.pooling == "both" else 1

    @property
    def last_norm(self) -> Literal["tokens", "pooled", None]:
        """What is normalised after the blocks: every token, what is read of them, or nothing."""
        return "tokens"

    @property
    def norm_before_blocks(self) -> bool:
        """Whether the embedded tokens are normalised."""
        return False

    @property
    def patch_bias(self) -> bool:
        """Whether the patch embedding has a bias."""
        return True

    @property
    def qkv_biases(self) -> tuple[bool, bool, bool]:
        """Whether query, key and value have a bias."""
        return True, True, True

    @property
    def activation(self) -> str:
        """The activation between the MLP layers, a name in `supernets.layers.activations`."""
        return "gelu"

    @property
    def gated(self) -> bool:
        """Whether the activation multiplies a second linear layer."""
        return False

    @property
    def inner_norms(self) -> bool:
        """Whether what attention and the MLP's neurons put out is normalised before it is mixed."""
        return False

    @property
    def absolute_positions(self) -> bool:
        """Whether every token has a position embedding."""
        return True

    @property
    def relative_positions(self) -> bool:
        """Whether every block adds a learned number to the scores of each pair of tokens."""
        return False

    @property
    def smooth_positions(self) -> bool:
        """Whether positions at a lower resolution are averages of those that they cover."""
        return False

    @property
    def image_multiple(self) -> int:
        """Patches cover the image."""
        return self.patch_size

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    def shrunk(self, architecture: Architecture) -> Self:
        """Depth, stream width and resolution are the sub-network's."""
        resolution = size_in(architecture, RESOLUTION, self.image_size)
        return super().shrunk(architecture).model_copy(update={"image_size": resolution})

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be divisible by patch_size {self.patch_size}"
            )
        return self
