"""Named search spaces: those of the papers, and wider ones of our own.

The papers choose between INT8 and FP32 and leave embeddings, patch embedding and norms alone
(SimQ-NAS, Sridhar et al. 2023, arXiv 2312.13301, and its published code; InstaTune, Sridhar et al.
2023, arXiv 2308.15609, table of search spaces). Sizes are those of the base models.
"""

from __future__ import annotations

BITS = ("int8", "fp32")
ALL_BITS = ("int4", "int8", "fp32")
VIT_LAYERS = {"blocks.*": BITS, "head": BITS}
BERT_LAYERS = {"blocks.*": BITS, "pooler": BITS, "head": BITS}
HEADS = (6, 8, 10, 12)

PRESETS: dict[str, dict[str, object]] = {
    "simqnas/bert-base": {
        "depth": (6, 7, 8, 9, 10, 11, 12),
        "num_heads": HEADS,
        "hidden_dim": (1024, 2048, 3072),
        "precision": BERT_LAYERS,
    },
    "simqnas/vit-b16": {
        "depth": (10, 11, 12),
        "num_heads": HEADS,
        "hidden_dim": (1024, 2048, 3072),
        "precision": VIT_LAYERS,
    },
    # The paper's network widens an ordinary ResNet-50's 0.25 to 0.35: parts of the widest here.
    "simqnas/resnet-50": {
        "dropped_blocks": (0, 1, 2),
        "inner_width": (0.2 / 0.35, 0.25 / 0.35, 1.0),
        "stage_width": (0.65, 0.8, 1.0),
        "precision": {"stem.*": BITS, "stages.*": BITS},
    },
    "instatune/bert-base": {
        "depth": (6, 7, 8, 9, 10, 11, 12),
        "num_heads": HEADS,
        "hidden_dim": (1024, 2048, 3072),
        "precision": BERT_LAYERS,
    },
    "instatune/vit-b16": {
        "depth": (11, 12),
        "num_heads": HEADS,
        "hidden_dim": (2048, 2560, 3072),
        "precision": VIT_LAYERS,
    },
    # Six layers in each of twelve blocks with images alone; with texts six in each half of a block,
    # and two in the half for texts of the last.
    "simqnas/beit3-base": {
        "depth": (11, 12),
        "num_heads": HEADS,
        "hidden_dim": (2048, 2560, 3072),
        "precision": {"blocks.*": BITS},
    },
    "instatune/beit3-base": {
        "depth": (11, 12),
        "num_heads": HEADS,
        "hidden_dim": (2048, 2560, 3072),
        "precision": VIT_LAYERS,
    },
    "wide/transformer": {
        "depth": (0.5, 0.67, 0.83, 1.0),
        "num_heads": (0.25, 0.5, 0.75, 1.0),
        "hidden_dim": (0.25, 0.5, 0.75, 1.0),
        "precision": {"*": ALL_BITS},
    },
    "wide/swin": {
        "dropped_blocks": (0, 1, 2, 3),
        "num_heads": (0.34, 0.67, 1.0),
        "hidden_dim": (0.25, 0.5, 0.75, 1.0),
        "precision": {"*": ALL_BITS},
    },
    "wide/resnet": {
        "dropped_blocks": (0, 1, 2, 3),
        "inner_width": (0.25, 0.5, 0.75, 1.0),
        "stage_width": (0.5, 0.75, 1.0),
        "precision": {"*": ALL_BITS},
    },
    "wide/regnet": {
        "dropped_blocks": (0, 1, 2, 3),
        "groups": (0.25, 0.5, 0.75, 1.0),
        "precision": {"*": ALL_BITS},
    },
    "wide/convnet": {
        "dropped_blocks": (0, 1, 2, 3),
        "inner_width": (0.25, 0.5, 0.75, 1.0),
        "precision": {"*": ALL_BITS},
    },
}
