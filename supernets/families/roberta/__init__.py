"""RoBERTa, XLM-RoBERTa, CamemBERT and data2vec for text classification."""

from supernets.families.family import Family
from supernets.families.roberta.config import RobertaConfig
from supernets.families.texts.dimensions import TEXT_DIMENSIONS

FAMILY = Family(
    sizes=RobertaConfig,
    model_types=("roberta", "xlm-roberta", "camembert", "data2vec-text"),
    network="supernets.families.texts.transformer:TextSuperNetwork",
    title="A RoBERTa",
    dimensions=TEXT_DIMENSIONS,
)
