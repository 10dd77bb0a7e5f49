"""ModernBERT for text classification."""

from supernets.families.family import Family
from supernets.families.modernbert.config import ModernBertConfig
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=ModernBertConfig,
    model_types=("modernbert",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="A ModernBERT",
    dimensions=TEXT_DIMENSIONS,
)
