"""ModernBERT for text classification."""

from supernets.families.family import Family
from supernets.families.modernbert.config import ModernBertConfig
from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS

FAMILY = Family(
    sizes=ModernBertConfig,
    model_types=("modernbert",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    hugging_face="supernets.families.modernbert.hugging_face:HUGGING_FACE",
    title="A ModernBERT",
    dimensions=TRANSFORMER_DIMENSIONS,
)
