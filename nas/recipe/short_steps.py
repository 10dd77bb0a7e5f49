"""How long the short trainings are in which settings are tried, told from what they stand for."""

from __future__ import annotations

from typing import Literal

from supernets.settings import TrainSettings

Section = Literal["tune", "polish"]
SHARES: dict[Section, int] = {"tune": 6, "polish": 10}
"""A short training has this part of the steps of what it stands for."""
LEAST_STEPS, MOST_STEPS = 60, 200
"""Of a short training: fewer tell nothing, more are not needed to tell."""


def part_steps(settings: TrainSettings | None, section: Section, samples: int) -> int:
    """Steps of that part of a section's training, 0 without one. samples: of training."""
    if settings is None:
        return 0
    whole = int(settings.epochs * max(1, -(-samples // settings.batch_size)))
    return whole // SHARES[section]


def short_steps(settings: TrainSettings | None, section: Section, samples: int) -> int:
    """Steps of a section's short trainings; 0 where they would be too short to tell anything."""
    steps = part_steps(settings, section, samples)
    return 0 if steps < LEAST_STEPS else min(steps, MOST_STEPS)
