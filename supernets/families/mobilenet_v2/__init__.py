"""MobileNetV2."""

from supernets.families.family import Family
from supernets.families.mobilenet_v2.config import MobileNetV2Config
from supernets.families.staged.dimensions import DROPPED_BLOCKS, INNER_WIDTH

FAMILY = Family(
    sizes=MobileNetV2Config,
    model_types=("mobilenet_v2",),
    network="supernets.families.mobilenet_v2.network:MobileNetV2SuperNetwork",
    title="A MobileNetV2",
    dimensions=(DROPPED_BLOCKS, INNER_WIDTH),
    least_opset=13,
)
