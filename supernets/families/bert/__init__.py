"""BERT for text classification."""

from supernets.families.bert.config import BertConfig
from supernets.families.family import Family
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=BertConfig,
    model_types=("bert",),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="A BERT",
    dimensions=TEXT_DIMENSIONS,
)
