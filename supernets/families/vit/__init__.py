"""Vision transformers: ViT, and DeiT with its distillation token."""

from supernets.families.family import Family
from supernets.families.vit.config import VitConfig
from supernets.families.vit.dimensions import DIMENSIONS

FAMILY = Family(
    sizes=VitConfig,
    model_types=("vit", "deit"),
    network="supernets.families.vit.network:ViTSuperNetwork",
    hugging_face="supernets.families.vit.hugging_face:HUGGING_FACE",
    title="A vision transformer",
    dimensions=DIMENSIONS,
)
