"""A run against the clock: how long each stage took, and by when it has to be over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nas.run.progress import Reporter, Stage
from nas.run.run_folder import read_json, write_json

STAGES = ("preparing", "training", "tuning trials", "tuning", "polish trials", "template",
          "references", "search", "polish", "validation")  # fmt: skip
"""In the order of a run."""
TITLES = {"exporting the template": "template"}
"""What a stage is called on the screen, where that is not its name."""
KEPT_BACK = 0.04
"""Part of the budget that no stage may use: reports, and what was predicted too low."""


class TimeIsUp(Exception):  # noqa: N818 # what was planned, not an error
    """A stage has used its share of the budget."""


@dataclass
class Pace:
    """Seconds of a run's stages, across its interruptions.

    predicted_s: stage -> planned seconds; empty without a plan. ends_s: stage -> seconds after the
    run's start by which it is to be over; one that is not named has no end. room: stage -> how many
    times the steps planned its training may take where time is left. spent_s: by earlier starts.
    path: where all this is kept.
    """

    path: Path | None = None
    budget_s: float | None = None
    predicted_s: Mapping[str, float] = field(default_factory=dict)
    ends_s: Mapping[str, float] = field(default_factory=dict)
    polish_s: float = 0.0
    room: Mapping[str, float] = field(default_factory=dict)
    spent_s: float = 0.0
    real_s: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    stage: str = "preparing"
    _started: float = field(init=False)
    _entered: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self._entered = self.clock()

    @classmethod
    def read(cls, path: Path, clock: Callable[[], float] = time.monotonic) -> Self:
        """Go on with what was kept, or begin."""
        return cls(path, clock=clock, **(read_json(path) if path.exists() else {}))

    def plan(
        self,
        budget_s: float,
        predicted_s: Mapping[str, float],
        free: set[str],
        polish_s: float = 0.0,
        room: Mapping[str, float] | None = None,
    ) -> None:
        """Share the budget out as the stages are predicted to need it.

        free: stages whose extent was stated, which end when that is done. polish_s: of one model.
        """
        total, sum_s, ends = sum(predicted_s.values()), 0.0, {}
        scale = budget_s * (1 - KEPT_BACK) / total
        for stage in STAGES:
            sum_s += predicted_s.get(stage, 0.0)
            if stage not in free:
                ends[stage] = sum_s * scale
        self.budget_s, self.predicted_s, self.ends_s = budget_s, predicted_s, ends
        self.polish_s, self.room = polish_s, room or {}

    @property
    def now_s(self) -> float:
        """Seconds this run has worked."""
        return self.spent_s + self.clock() - self._started

    def correct(self, searched: int, planned: int) -> None:
        """Leave the last stage the time that it will take, once it is known what a candidate took.

        Both exported models and candidates are scored and timed: where the machine has become
        slower since the plan was made, the polish ends earlier instead. searched: candidates that
        were measured of those planned.
        """
        expected_s = self.predicted_s.get("search", 0.0) / max(1, planned)
        if not ("polish" in self.ends_s and searched and expected_s):
            return
        self._count()
        slower = max(1.0, self.real_s.get("search", 0.0) / searched / expected_s)
        all_s = (self.budget_s or 0.0) * (1 - KEPT_BACK)
        end_s = all_s - slower * self.predicted_s.get("validation", 0.0)
        self.ends_s = {**self.ends_s, "polish": min(self.ends_s["polish"], end_s)}

    def left_s(self, stage: str) -> float:
        """Seconds until a stage has to be over; infinite where nothing was planned."""
        return self.ends_s.get(stage, math.inf) - self.now_s

    def enter(self, stage: str) -> None:
        """The stage before is over."""
        self._count()
        self.stage = stage
        self.keep()

    def _count(self) -> None:
        now = self.clock()
        self.real_s[self.stage] = self.real_s.get(self.stage, 0.0) + now - self._entered
        self._entered = now

    def keep(self) -> None:
        """Write it down, if the run folder is there."""
        self._count()
        if self.path is not None and self.path.parent.exists():
            write_json(self.path, self._to_json())

    def _to_json(self) -> dict[str, Any]:
        return {
            "budget_s": self.budget_s,
            "predicted_s": dict(self.predicted_s),
            "ends_s": dict(self.ends_s),
            "polish_s": self.polish_s,
            "room": dict(self.room),
            "spent_s": self.now_s,
            "real_s": self.real_s,
        }

    def note(self) -> str:
        """Time used against the budget, empty without one."""
        if self.budget_s is None:
            return ""
        return f"{self.now_s / 60:.1f} of {self.budget_s / 60:.3g} min"


@dataclass(frozen=True)
class PacedStage:
    """A stage whose updates say how much of the budget is used."""

    stage: Stage
    pace: Pace

    def update(self, step: int, total: int, note: str = "") -> None:
        """Report progress."""
        self.stage.update(step, total, ", ".join(filter(None, (note, self.pace.note()))))


@dataclass(frozen=True)
class PacedReporter:
    """A reporter that times the stages it is told of."""

    reporter: Reporter
    pace: Pace

    def stage(self, title: str) -> PacedStage:
        """Start a stage; see `Reporter`."""
        name = TITLES.get(title, title.partition("-")[0])
        self.pace.enter("polish" if name == "polishing" else name)
        return PacedStage(self.reporter.stage(title), self.pace)

    def say(self, message: str) -> None:
        """Print a line; see `Reporter`."""
        self.reporter.say(message)
