"""DeBERTa, from its second version on, for text classification."""

from supernets.families.deberta.config import DebertaConfig
from supernets.families.family import Family
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=DebertaConfig,
    model_types=("deberta-v2",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="A DeBERTa",
    dimensions=TEXT_DIMENSIONS,
)
