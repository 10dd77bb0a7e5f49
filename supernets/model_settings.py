"""What an experiment file says about the network to start from; free of torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, create_model, model_validator

from hardware.settings import Settings
from supernets.families.registry import FAMILIES, family, model_types
from supernets.families.sizes import Sizes
from supernets.settings import TrainSettings

_SECTIONS: dict[str, Any] = {
    name: (
        family(name).sizes | None,
        Field(None, description=f"{family(name).title} from scratch."),
    )
    for name in FAMILIES
}
FromScratch = create_model("FromScratch", __base__=Settings, **_SECTIONS)
"""A field per family, so that `vit: {depth: 6}` is a section like any other."""


class ModelSettings(FromScratch):
    """The network to start from: a checkpoint, or a family's sizes to train from scratch."""

    checkpoint: str | None = Field(
        None,
        pattern=r"\S",
        description="Hugging Face id, local folder with config.json and safetensors (model_type "
        f"{', '.join(model_types())}), or a safetensors file of a ResNet in torchvision's or "
        "timm's naming, or of a BEiT-3 as it was published.",
    )
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

    @classmethod
    def from_scratch(cls, sizes: Sizes, training: TrainSettings | None = None) -> Self:
        """Settings of a network with random weights."""
        return cls.model_validate({sizes.family: sizes, "training": training})

    @property
    def sizes(self) -> Sizes | None:
        """Sizes of the network to train from scratch; None for a checkpoint."""
        given: list[Sizes | None] = [getattr(self, name) for name in FAMILIES]
        return next((sizes for sizes in given if sizes is not None), None)

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        keys = ("checkpoint", *FAMILIES)
        starts = [key for key in keys if getattr(self, key) is not None]
        if len(starts) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(keys)}; given: {', '.join(starts) or 'none'}"
            )
        return self
