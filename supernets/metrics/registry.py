"""The quality metrics there are, by name; free of torch."""

from __future__ import annotations

from supernets.metrics import classes, embeddings, entities, numbers
from supernets.metrics.metric import Quality

QUALITIES: dict[str, Quality] = {
    entry.name: entry
    for entry in (
        classes.ACCURACY,
        classes.BALANCED_ACCURACY,
        classes.F1,
        classes.F1_MICRO,
        classes.AUC,
        classes.MEAN_AVERAGE_PRECISION,
        numbers.SPEARMAN,
        numbers.PEARSON,
        numbers.MEAN_ABSOLUTE_ERROR,
        entities.ENTITY_F1,
        entities.WORD_ACCURACY,
        embeddings.COSINE,
        embeddings.NEIGHBOUR_ACCURACY,
        embeddings.STS_SPEARMAN,
    )
}
