"""BEiT-3: a classifier of images, or of texts about them."""

from supernets.families.beit3.config import Beit3Config
from supernets.families.beit3.dimensions import DIMENSIONS
from supernets.families.family import Family

FAMILY = Family(
    sizes=Beit3Config,
    model_types=("beit3",),
    network="supernets.families.beit3.network:network",
    title="A BEiT-3 of images, or of images and texts",
    dimensions=DIMENSIONS,
)
