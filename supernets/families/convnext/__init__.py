"""ConvNeXt, and its second version."""

from supernets.families.convnext.config import ConvNextConfig
from supernets.families.family import Family
from supernets.families.staged.dimensions import DROPPED_BLOCKS, INNER_WIDTH

FAMILY = Family(
    sizes=ConvNextConfig,
    model_types=("convnext", "convnextv2"),
    network="supernets.families.convnext.network:ConvNextSuperNetwork",
    title="A ConvNeXt",
    dimensions=(DROPPED_BLOCKS, INNER_WIDTH),
)
