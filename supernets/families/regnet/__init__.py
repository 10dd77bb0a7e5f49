"""RegNet, without (X) and with squeeze-and-excitation (Y)."""

from supernets.families.family import Family
from supernets.families.regnet.config import RegNetConfig
from supernets.families.staged.dimensions import DROPPED_BLOCKS
from supernets.space.dimensions import SizeDimension

GROUPS = SizeDimension(
    "groups",
    "Groups of channels inside a block.",
    lambda config: config.elastic_groups,
    (0.5, 0.75, 1.0),
)

FAMILY = Family(
    sizes=RegNetConfig,
    model_types=("regnet",),
    network="supernets.families.regnet.network:RegNetSuperNetwork",
    title="A RegNet",
    dimensions=(DROPPED_BLOCKS, GROUPS),
    least_opset=13,
)
