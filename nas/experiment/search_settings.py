"""The `search` section of an experiment file, and the table of strategies it chooses from."""

from __future__ import annotations

import difflib
from typing import Any, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from hardware.settings import Settings

MOST = 100_000
"""Candidates of a search: more are a slip of the keyboard, and no predictor could be fitted to."""


class StrategyOptions(Settings):
    """What one strategy can be told beside the budget: nothing."""


class GeneticOptions(StrategyOptions):
    """Options of a genetic algorithm whose every individual is measured."""

    population: int = Field(20, ge=4, le=MOST, description="Population of the genetic algorithm.")


class LinasOptions(StrategyOptions):
    """Options of a genetic algorithm over predictors."""

    acquisition: Literal["hypervolume", "rank"] = Field(
        "hypervolume",
        description="How linas picks a round: expected gain in hypervolume with the predictors' "
        "uncertainty after a covering start, or predicted rank alone after a random start "
        "(plain LINAS).",
    )
    population: int = Field(100, ge=4, le=MOST, description="Population of the genetic algorithm.")
    generations: int = Field(
        60,
        ge=1,
        le=MOST,
        description="Generations of the genetic algorithm over the predictors per round.",
    )


class StrategyEntry(NamedTuple):
    """Where a subclass of `nas.search.strategy.Strategy` is, and what it can be told.

    A place, not the class: an experiment is read where neither pymoo nor scikit-learn is installed.
    """

    place: str
    options: type[StrategyOptions] = StrategyOptions


STRATEGIES: dict[str, StrategyEntry] = {
    "linas": StrategyEntry("nas.search.linas:Linas", LinasOptions),
    "nsga2": StrategyEntry("nas.search.nsga2:MeasuredNSGA2", GeneticOptions),
    "random": StrategyEntry("nas.search.strategy:RandomSearch"),
    "optuna-tpe": StrategyEntry("nas.search.optuna_samplers:OptunaTPE"),
    "optuna-nsga2": StrategyEntry("nas.search.optuna_samplers:OptunaNSGA2", GeneticOptions),
    "optuna-nsga3": StrategyEntry("nas.search.optuna_samplers:OptunaNSGA3", GeneticOptions),
    "optuna-gp": StrategyEntry("nas.search.optuna_samplers:OptunaGP"),
}

WRITTEN_BY_0_1 = {"acquisition", "population", "generations"}
"""Options in every run folder of version 0.1.0, whichever strategy it used."""

Options = TypeVar("Options", bound=StrategyOptions)


def _describe_options(schema: dict[str, Any]) -> None:
    """Add every strategy's options to the JSON schema, each with who knows it."""
    schema["properties"]["strategy"]["enum"] = list(STRATEGIES)
    schema["additionalProperties"] = False
    for name in sorted({option for entry in STRATEGIES.values() for option in _names(entry)}):
        knowing = [key for key, entry in STRATEGIES.items() if name in _names(entry)]
        told = STRATEGIES[knowing[0]].options.model_json_schema()["properties"][name]
        defaults = {key: STRATEGIES[key].options.model_fields[name].default for key in knowing}
        if len(set(defaults.values())) > 1:
            del told["default"]
        usual = ", ".join(f"{key}: {value}" for key, value in defaults.items())
        told["description"] += f" Defaults by strategy: {usual}; others have no such option."
        schema["properties"][name] = told


def _names(entry: StrategyEntry) -> set[str]:
    return set(entry.options.model_fields)


class SearchSettings(Settings):
    """How candidates are chosen and how many of them are measured.

    The options of the strategy stand beside these fields.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=_describe_options)

    strategy: str = Field("linas", description="Search strategy.")
    evaluations: int = Field(
        100,
        ge=2,
        le=MOST,
        description="Candidates to measure in all, the reference rows not counted.",
    )
    round_size: int = Field(
        10, ge=1, le=MOST, description="Candidates measured between two fits of the predictors."
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="Stop when so many rounds together let expect less than half a percent more "
        "hypervolume of the next; null: measure all `evaluations`.",
    )

    def options(self, kind: type[Options]) -> Options:
        """The options of a strategy of this kind."""
        return kind.model_validate(self.model_extra)

    @model_validator(mode="wrap")
    @classmethod
    def _with_options(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Check what is no field by what the strategy knows, and add its defaults."""
        if not isinstance(data, dict) or not isinstance(data.get("strategy", "linas"), str):
            return validate(data)
        fields = {k: v for k, v in data.items() if k in cls.model_fields}
        given = {k: v for k, v in data.items() if k not in fields and v is not None}
        name = str(data.get("strategy", "linas"))
        if data.keys() >= WRITTEN_BY_0_1 and name in STRATEGIES:
            without_effect = WRITTEN_BY_0_1 - _names(STRATEGIES[name])
            given = {k: v for k, v in given.items() if k not in without_effect}
        mistakes: list[ErrorDetails] = []
        try:
            fields |= _options(name, given, [*cls.model_fields]).model_dump()
        except ValidationError as error:
            mistakes += error.errors()
        try:
            made = validate(fields)
        except ValidationError as error:
            mistakes += error.errors()
        if mistakes:
            raise ValidationError.from_exception_data("search", [_again(m) for m in mistakes])
        return made

    @model_validator(mode="after")
    def _one_round_fits(self) -> Self:
        if self.evaluations < self.round_size:
            raise ValueError(
                f"search.evaluations: {self.evaluations} is less than one round "
                f"(search.round_size: {self.round_size}); raise the first or lower the second"
            )
        return self


def _options(strategy: str, given: dict[str, Any], fields: list[str]) -> StrategyOptions:
    """What is given as the strategy's options. Raises ValidationError with every mistake."""
    if strategy not in STRATEGIES:
        why = f"no such strategy; allowed are {', '.join(STRATEGIES)}"
        raise ValidationError.from_exception_data("search", [_mistake("strategy", strategy, why)])
    kind = STRATEGIES[strategy].options
    foreign = {k: v for k, v in given.items() if k not in kind.model_fields}
    mistakes = [_mistake(k, v, _why_not(strategy, str(k), fields)) for k, v in foreign.items()]
    try:
        options = kind.model_validate({k: v for k, v in given.items() if k not in foreign})
    except ValidationError as error:
        mistakes += [_again(known) for known in error.errors()]
    if mistakes:
        raise ValidationError.from_exception_data("search", mistakes)
    return options


def _mistake(key: object, value: object, message: str) -> InitErrorDetails:
    error = PydanticCustomError("search", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=(str(key),), input=value)


def _again(known: ErrorDetails) -> InitErrorDetails:
    """A mistake that was already found, to be raised once more beside others."""
    error = PydanticCustomError("search", "{message}", {"message": known["msg"]})
    return InitErrorDetails(type=error, loc=known["loc"], input=known["input"])


def _why_not(strategy: str, key: str, fields: list[str]) -> str:
    """Say who knows an option that `strategy` does not know, or what is meant by it."""
    knowing = [name for name, entry in STRATEGIES.items() if key in _names(entry)]
    allowed = [*fields, *STRATEGIES[strategy].options.model_fields]
    if knowing:
        return f"no option of strategy {strategy}, but of {', '.join(knowing)}; remove it"
    close = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown key; {hint}allowed with strategy {strategy} are {', '.join(allowed)}"
