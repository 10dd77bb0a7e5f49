"""Where the tokens of a batch of texts lie, in the forms that blocks ask for.

B batch, T tokens, F frequencies
"""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.families.texts.positions import bucket_rows, distances, looked_up, span_rows
from supernets.families.texts.sizes import TextTransformerSizes
from supernets.layers.disentangled import Pairs
from supernets.layers.rotary import turns


def place_rows(config: TextTransformerSizes) -> Tensor | None:
    """Row in the table of relative places for every distance that there can be, ascending."""
    most, span = config.max_positions, config.relative_span
    if config.relative_buckets:
        return bucket_rows(most, config.relative_buckets)
    if span:
        return span_rows(most, span, config.farthest)
    return None


class Surroundings:
    """Masks, angles and relative places of the tokens that `attention_mask` `(B, T)` is of.

    row_of_distance: see `place_rows`.
    """

    def __init__(
        self, config: TextTransformerSizes, attention_mask: Tensor, row_of_distance: Tensor | None
    ) -> None:
        self.config, self.real_BT = config, attention_mask > 0
        self.tokens, self.device = attention_mask.shape[1], attention_mask.device
        rows = row_of_distance
        self.rows_TT = None if rows is None else looked_up(rows, self.tokens)

    def mask(self, window: int | None) -> Tensor:
        """Which tokens may be looked at, `(B, 1, T or 1, T)`: real ones, at most `window` away.

        Where blocks add numbers to the scores, as such numbers. A token that is padding sees
        itself, so that no row is without any.
        """
        mask_B1T = self.real_BT[:, None]
        if window is not None:
            distance_TT = distances(self.tokens, self.device)
            mask_B1T = (distance_TT.abs() <= window) & mask_B1T | (distance_TT == 0)
        if self.rows_TT is not None:
            mask_B1T = torch.where(mask_B1T, 0.0, -torch.inf)
        return mask_B1T[:, None]

    def turns(self, theta: float | None) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines by which queries and keys are turned, see `rotary.turns`."""
        if theta is None:
            return None
        return turns(self.tokens, self.config.head_dim, theta, self.device)

    def pairs(self, places_RD: Tensor) -> Pairs:
        """What scores against relative places need."""
        assert self.rows_TT is not None
        return Pairs.of(places_RD, self.rows_TT)
