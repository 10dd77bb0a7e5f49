"""Checkpoints of CLIP: the classifier, both towers, or the image tower alone."""

from supernets.families.contrastive import tower

HUGGING_FACE = tower("clip", "CLIP")
