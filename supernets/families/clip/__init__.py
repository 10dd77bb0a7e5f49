"""The image tower of CLIP, as a classifier of images."""

from supernets.families.clip.config import ClipConfig
from supernets.families.family import Family
from supernets.families.image_dimensions import IMAGE_DIMENSIONS

FAMILY = Family(
    sizes=ClipConfig,
    model_types=("clip", "clip_vision_model"),
    network="supernets.families.image_transformer:ImageSuperNetwork",
    title="The image tower of a CLIP",
    dimensions=IMAGE_DIMENSIONS,
)
