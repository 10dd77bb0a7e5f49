"""BEiT-3's vision half as a classifier of images."""

from supernets.families.beit3.config import Beit3Config
from supernets.families.family import Family
from supernets.families.image_dimensions import IMAGE_DIMENSIONS

FAMILY = Family(
    sizes=Beit3Config,
    model_types=("beit3",),
    network="supernets.families.image_transformer:ImageSuperNetwork",
    hugging_face="supernets.families.beit3.hugging_face:HUGGING_FACE",
    title="A BEiT-3 of images",
    dimensions=IMAGE_DIMENSIONS,
)
