"""DINOv2, without and with registers."""

from supernets.families.dinov2.config import Dinov2Config
from supernets.families.family import Family
from supernets.families.image_dimensions import IMAGE_DIMENSIONS

FAMILY = Family(
    sizes=Dinov2Config,
    model_types=("dinov2", "dinov2_with_registers"),
    network="supernets.families.image_transformer:ImageSuperNetwork",
    title="A DINOv2",
    dimensions=IMAGE_DIMENSIONS,
)
