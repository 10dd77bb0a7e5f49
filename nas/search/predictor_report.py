"""predictors.json: how well each metric could be predicted from the genome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from nas.experiment.metrics import find_metric
from nas.search.problem import History
from nas.search.surrogate import Surrogate
from predictors.selection import Judgement


@dataclass(frozen=True)
class PredictorReport:
    """One metric's chosen predictor beside the measurements it was judged on."""

    metric: str
    predictor: Judgement
    measured: tuple[float, ...]

    @property
    def predicted(self) -> tuple[float, ...]:
        """Cross-validated: each by a predictor that had not seen that candidate."""
        return self.predictor.held_out

    COLUMNS: ClassVar = (
        "metric",
        "predictor",
        "Kendall tau",
        "error (RMSE)",
        "mean baseline's error",
        "tau from MACs and bytes alone",
        "verdict",
    )

    def row(self) -> tuple[str, ...]:
        """Cells under `COLUMNS`."""
        predictor, baselines = self.predictor, self.predictor.baselines
        verdict = "better than its baselines" if predictor.beats_baselines else "no better"
        costs = f"{baselines['costs'].kendall_tau:.3f}" if "costs" in baselines else "-"
        return (
            self.metric,
            predictor.name,
            f"{predictor.score.kendall_tau:.3f}",
            f"{predictor.score.rmse:.4g}",
            f"{baselines['mean'].rmse:.4g}",
            costs,
            verdict,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, read back by `from_json`."""
        return {
            "metric": self.metric,
            "predictor": self.predictor.to_json(),
            "measured": list(self.measured),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(
            data["metric"],
            Judgement.from_json(data["predictor"]),
            tuple(data["measured"]),
        )


def report_predictors(surrogate: Surrogate, history: History) -> list[PredictorReport]:
    """Of every metric that is predicted: the held-out predictions beside the measurements.

    surrogate: fitted to this history.
    """
    problem = surrogate.problem
    return [
        PredictorReport(
            metric,
            predictor.judgement,
            tuple(history.of(find_metric(metric)).values[:, problem.column(metric)].tolist()),
        )
        for metric, predictor in surrogate.predictors.items()
    ]
