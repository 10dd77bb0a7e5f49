"""DistilBERT for text classification."""

from supernets.families.distilbert.config import DistilBertConfig
from supernets.families.family import Family
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=DistilBertConfig,
    model_types=("distilbert",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="A DistilBERT",
    dimensions=TEXT_DIMENSIONS,
)
