"""MPNet for text classification."""

from supernets.families.family import Family
from supernets.families.mpnet.config import MPNetConfig
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=MPNetConfig,
    model_types=("mpnet",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="An MPNet",
    dimensions=TEXT_DIMENSIONS,
)
