"""What a family of networks is to the rest: sizes, network, and how its checkpoints are written."""

from __future__ import annotations

from dataclasses import dataclass

from supernets.families.sizes import Sizes
from supernets.space.dimensions import Dimension


@dataclass(frozen=True)
class Family:
    """One family. Parts that need torch are named `module:name` and imported when they are used.

    model_types: what transformers calls it in config.json. network: a `SuperNetwork` made from
    sizes and a number of labels. dimensions: what can vary.
    least_opset: the lowest ONNX operator set that says what its networks compute.
    """

    sizes: type[Sizes]
    model_types: tuple[str, ...]
    network: str
    title: str
    dimensions: tuple[Dimension, ...]
    least_opset: int = 17
    """That of LayerNormalization; convolutional networks without one say 13."""

    @property
    def hugging_face(self) -> str:
        """Its `HuggingFace`, in the file of that name beside its sizes."""
        return f"{self.sizes.__module__.rpartition('.')[0]}.hugging_face:HUGGING_FACE"
