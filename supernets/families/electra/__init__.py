"""ELECTRA for text classification."""

from supernets.families.electra.config import ElectraConfig
from supernets.families.family import Family
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=ElectraConfig,
    model_types=("electra",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="An ELECTRA",
    dimensions=TEXT_DIMENSIONS,
)
