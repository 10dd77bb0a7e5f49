"""Where the tokens of a batch of texts lie, in the forms that blocks ask for.

B batch, T tokens, F frequencies
"""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.families.texts.sizes import TextTransformerSizes
from supernets.layers.rotary import turns
from supernets.layers.text_positions import bucket_rows, distances


class Surroundings:
    """Masks, angles and relative places of the tokens that `attention_mask` `(B, T)` is of."""

    def __init__(self, config: TextTransformerSizes, attention_mask: Tensor) -> None:
        self.config, self.real_BT = config, attention_mask > 0
        self.tokens, self.device = attention_mask.shape[1], attention_mask.device

    def mask(self, window: int | None) -> Tensor:
        """Which tokens may be looked at, `(B, 1, T or 1, T)`: real ones, at most `window` away.

        Where blocks add numbers to the scores, as such numbers. A token that is padding sees
        itself, so that no row is without any.
        """
        mask_B1T = self.real_BT[:, None]
        if window is not None:
            distance_TT = distances(self.tokens, self.device)
            mask_B1T = (distance_TT.abs() <= window) & mask_B1T | (distance_TT == 0)
        if self.config.relative_buckets:
            mask_B1T = torch.where(mask_B1T, 0.0, -torch.inf)
        return mask_B1T[:, None]

    def turns(self, theta: float | None) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines by which queries and keys are turned, see `rotary.turns`."""
        if theta is None:
            return None
        return turns(self.tokens, self.config.head_dim, theta, self.device)

    def rows(self) -> Tensor | None:
        """Rows of the table of relative places, `(T, T)`."""
        config = self.config
        if not config.relative_buckets:
            return None
        return bucket_rows(self.tokens, config.relative_buckets, config.max_positions, self.device)
