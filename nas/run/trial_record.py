"""Short trainings by which settings were found: what was tried, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from nas.run.run_folder import RunFolder, read_json

Z = 1.645
"""Standard errors by which settings have to be better than the derived ones: a test at 5 %."""


@dataclass(frozen=True)
class Trial:
    """One short training.

    changed: settings that are not the derived ones. value: of the metric at the end, or when it
    was given up; None where it diverged. steps: that it cost, judging included. difference, error:
    from the derived settings, positive where it is better, on the same samples, and its standard
    error; of trials that were finished.
    """

    changed: Mapping[str, Any]
    value: float | None
    steps: int
    ended: str
    difference: float | None = None
    error: float | None = None

    @property
    def better(self) -> bool:
        """Whether it is distinguishably better than the derived settings."""
        if self.difference is None or self.error is None:
            return False
        return self.difference > Z * self.error

    def cells(self, taken: bool) -> tuple[str, ...]:
        """As texts under `Trials.COLUMNS`."""
        changed = ", ".join(f"{name} {value:g}" for name, value in self.changed.items())
        beside = ""
        if self.changed and self.difference is not None:
            beside = f"{self.difference:+.4f} +- {self.error:.4f}"
        value = "" if self.value is None else f"{self.value:.4f}"
        ended = "taken" if taken else self.ended
        return changed or "as derived", value, beside, str(self.steps), ended


@dataclass(frozen=True)
class Trials:
    """All that was tried, the derived settings first.

    length: steps of a whole one. samples: of validation, by which all were judged. before: the
    value before any training; None where that says nothing. sign: of the metric, see `Quality`.
    """

    rows: tuple[Trial, ...]
    length: int
    samples: int
    before: float | None = None
    sign: float = 1.0

    @property
    def tried(self) -> set[str]:
        """Names of settings that were tried."""
        return {name for row in self.rows for name in row.changed}

    @property
    def best(self) -> Trial | None:
        """What is taken: the best of those that are distinguishably better than what was derived.

        Where the derived settings diverge, the best that does not. None: nothing is.
        """
        finished = [row for row in self.rows if row.ended == "finished"]
        first = self.rows[0] if self.rows else None
        good = [row for row in finished if row.better or first not in finished]
        return max(good, key=self._rank, default=None)

    def _rank(self, row: Trial) -> tuple[float, float]:
        return row.difference or 0.0, self.sign * (row.value or 0.0)

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Settings in place of the derived ones, often none."""
        return {} if self.best is None else self.best.changed

    COLUMNS: ClassVar = (
        "settings",
        "on validation",
        "beside what was derived",
        "cost in steps",
        "",
    )

    def cells(self) -> list[tuple[str, ...]]:
        """One row per trial as texts under `COLUMNS`."""
        rows = [row.cells(row is self.best) for row in self.rows]
        if self.before is not None:
            rows.insert(0, ("before", f"{self.before:.4f}", "", "0", ""))
        return rows

    def reason(self) -> str:
        """Why the settings are what they are, behind what they were derived from."""
        if not self.rows:
            return "no time was left for trial runs"
        many = f"{len(self.rows)} trial runs of {self.length} steps"
        if self.best is None:
            return f"none of {many} was distinguishably better"
        found, first = self.best.value or 0.0, self.rows[0].value
        before = "diverged" if first is None else f"{first:.4f}"
        return f"the best of {many}: {found:.4f} on validation, what was derived {before}"

    def judged_by(self) -> str:
        """How the table came about, in a sentence."""
        return (
            f"Each trained {self.length} steps at most on a part of the training data, and was "
            f"judged on {self.samples:,} validation samples that the search sees too, which its "
            "cost includes. Taken is what is better than what was derived, by a one-sided test at "
            "5 %."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(**{**data, "rows": tuple(Trial(**row) for row in data["rows"])})


def read_trials(folder: RunFolder) -> dict[str, Trials]:
    """Section of the experiment -> its trials, of those that are done."""
    kept = read_json(folder.trials) if folder.trials.exists() else {}
    return {section: Trials.from_json(trials) for section, trials in kept.items()}
