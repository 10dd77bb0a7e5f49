"""DistilBERT for text classification."""

from supernets.families.distilbert.config import DistilBertConfig
from supernets.families.family import Family
from supernets.families.transformer_dimensions import TRANSFORMER_DIMENSIONS

FAMILY = Family(
    sizes=DistilBertConfig,
    model_types=("distilbert",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    hugging_face="supernets.families.distilbert.hugging_face:HUGGING_FACE",
    title="A DistilBERT",
    dimensions=TRANSFORMER_DIMENSIONS,
)
