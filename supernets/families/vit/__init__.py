"""Vision transformers: ViT, DeiT with its distillation token, and ViTs trained without labels."""

from supernets.families.family import Family
from supernets.families.image_dimensions import IMAGE_DIMENSIONS
from supernets.families.vit.activation import ACTIVATION
from supernets.families.vit.config import VitConfig

FAMILY = Family(
    sizes=VitConfig,
    model_types=("vit", "deit", "vit_msn", "ijepa", "vit_mae"),
    network="supernets.families.image_transformer:ImageSuperNetwork",
    title="A vision transformer",
    dimensions=(*IMAGE_DIMENSIONS, ACTIVATION),
)
