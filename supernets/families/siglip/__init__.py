"""The image tower of SigLIP, as a classifier of images."""

from supernets.families.family import Family
from supernets.families.image_dimensions import IMAGE_DIMENSIONS
from supernets.families.siglip.config import SiglipConfig

FAMILY = Family(
    sizes=SiglipConfig,
    model_types=("siglip", "siglip_vision_model"),
    network="supernets.families.image_transformer:ImageSuperNetwork",
    title="The image tower of a SigLIP",
    dimensions=IMAGE_DIMENSIONS,
)
