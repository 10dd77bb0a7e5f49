"""Checkpoints of SigLIP: the classifier, both towers, or the image tower alone."""

from supernets.families.contrastive import tower

HUGGING_FACE = tower("siglip", "Siglip")
