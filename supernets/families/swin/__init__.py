"""Swin, the transformer of shifted windows."""

from supernets.families.family import Family
from supernets.families.staged.dimensions import DROPPED_BLOCKS
from supernets.families.swin.config import SwinConfig
from supernets.families.swin.dimensions import HIDDEN_DIM, NUM_HEADS

FAMILY = Family(
    sizes=SwinConfig,
    model_types=("swin",),
    network="supernets.families.swin.network:SwinSuperNetwork",
    title="A Swin",
    dimensions=(DROPPED_BLOCKS, NUM_HEADS, HIDDEN_DIM),
)
