"""The `search` section of an experiment file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

StrategyName = Literal[
    "linas", "nsga2", "random", "optuna-tpe", "optuna-nsga2", "optuna-nsga3", "optuna-gp"
]


class SearchSettings(BaseModel):
    """How candidates are chosen and how many of them are measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyName = Field("linas", description="Search strategy.")
    evaluations: int = Field(
        100, ge=2, description="Candidates to measure in all, the reference rows not counted."
    )
    round_size: int = Field(
        10, ge=1, description="Candidates measured between two fits of the predictors."
    )
    acquisition: Literal["hypervolume", "rank"] = Field(
        "hypervolume",
        description="How linas picks a round: expected gain in hypervolume with the predictors' "
        "uncertainty after a covering start, or predicted rank alone after a random start "
        "(plain LINAS).",
    )
    population: int | None = Field(
        None,
        ge=4,
        description="Population of the genetic algorithm; by default 100 over predictors and 20 "
        "where every individual is measured.",
    )
    generations: int = Field(
        60, ge=1, description="Generations of the genetic algorithm over the predictors per round."
    )

    @model_validator(mode="after")
    def _one_round_fits(self) -> Self:
        if self.evaluations < self.round_size:
            raise ValueError(
                f"search.evaluations: {self.evaluations} is less than one round "
                f"(search.round_size: {self.round_size}); raise the first or lower the second"
            )
        return self

    @property
    def predicted_population(self) -> int:
        """Population of the genetic algorithm over the predictors."""
        return self.population or 100

    @property
    def measured_population(self) -> int:
        """Population of a genetic algorithm whose every individual is measured."""
        return self.population or 20
