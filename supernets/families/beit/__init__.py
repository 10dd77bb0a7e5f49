"""BEiT, and data2vec for images, which is built like it."""

from supernets.families.beit.config import BeitConfig
from supernets.families.family import Family
from supernets.families.image_dimensions import EMBED_DIM
from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS

FAMILY = Family(
    sizes=BeitConfig,
    model_types=("beit", "data2vec-vision"),
    network="supernets.families.image_transformer:ImageSuperNetwork",
    title="A BEiT",
    dimensions=(EMBED_DIM, *TRANSFORMER_DIMENSIONS),
)
