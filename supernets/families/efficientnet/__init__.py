"""EfficientNet."""

from supernets.families.efficientnet.config import EfficientNetConfig
from supernets.families.family import Family
from supernets.families.staged.dimensions import DROPPED_BLOCKS, INNER_WIDTH

FAMILY = Family(
    sizes=EfficientNetConfig,
    model_types=("efficientnet",),
    network="supernets.families.efficientnet.network:EfficientNetSuperNetwork",
    title="An EfficientNet",
    dimensions=(DROPPED_BLOCKS, INNER_WIDTH),
    least_opset=13,
)
