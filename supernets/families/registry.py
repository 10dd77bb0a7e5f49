"""Every family there is. A new one is a folder beside these and a line here."""

from __future__ import annotations

from pkgutil import resolve_name

from supernets.families.family import Family

FAMILIES = {
    "vit": "supernets.families.vit:FAMILY",
    "dinov2": "supernets.families.dinov2:FAMILY",
    "clip": "supernets.families.clip:FAMILY",
    "siglip": "supernets.families.siglip:FAMILY",
    "beit": "supernets.families.beit:FAMILY",
    "beit3": "supernets.families.beit3:FAMILY",
    "swin": "supernets.families.swin:FAMILY",
    "bert": "supernets.families.bert:FAMILY",
    "distilbert": "supernets.families.distilbert:FAMILY",
    "roberta": "supernets.families.roberta:FAMILY",
    "electra": "supernets.families.electra:FAMILY",
    "mpnet": "supernets.families.mpnet:FAMILY",
    "modernbert": "supernets.families.modernbert:FAMILY",
    "deberta": "supernets.families.deberta:FAMILY",
    "resnet": "supernets.families.resnet:FAMILY",
    "convnext": "supernets.families.convnext:FAMILY",
    "mobilenet_v2": "supernets.families.mobilenet_v2:FAMILY",
    "regnet": "supernets.families.regnet:FAMILY",
    "efficientnet": "supernets.families.efficientnet:FAMILY",
}
"""Name in an experiment file -> where its descriptor is."""


def family(name: str) -> Family:
    """The descriptor of a family. Loads neither torch nor transformers."""
    found = resolve_name(FAMILIES[name])
    assert isinstance(found, Family)
    return found


def model_types() -> dict[str, str]:
    """What config.json calls each kind of network that can be read -> its family."""
    return {kind: name for name in FAMILIES for kind in family(name).model_types}
