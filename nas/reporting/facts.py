"""Everything that a report shows, read from a run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nas.delivery.outcomes import read_outcomes
from nas.delivery.results import Front, read_front
from nas.delivery.selection import provisional_front
from nas.evaluation.record import Evaluation
from nas.experiment.metrics import Metric
from nas.experiment.schema import Experiment
from nas.reporting.confusion import Confusion
from nas.reporting.points import Profiles
from nas.run.data_record import read_account
from nas.run.run_folder import RunFolder, read_json
from nas.run.trial_record import Trials, read_trials
from nas.search.effects import Effects
from nas.search.predictor_report import PredictorReport
from supernets.data.account import DataAccount
from supernets.space.space import SearchSpace


@dataclass(frozen=True)
class Report:
    """Everything a report shows.

    title: the experiment's name. data: None for a run of version 0.1.0, which kept no account.
    objectives: of the search. space: its genes, None where they are not known. effects, profiles:
    empty before the run is finished, or where an earlier version finished it. cards: README.md of
    exported models by name. confusion: of the recommended model and the reference in low
    precision. trials: by which settings of a section were found. settings: of the experiment.
    folder: as in a command.
    """

    title: str
    front: Front
    evaluations: Sequence[Evaluation]
    predictors: Sequence[PredictorReport]
    finished: bool
    data: DataAccount | None = None
    objectives: Sequence[Metric] = ()
    space: SearchSpace | None = None
    effects: Effects = field(default_factory=dict)
    profiles: Profiles = field(default_factory=dict)
    cards: Mapping[str, str] = field(default_factory=dict)
    confusion: Confusion | None = None
    trials: Mapping[str, Trials] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: str = "RUN"

    @classmethod
    def of(
        cls, experiment: Experiment, folder: RunFolder, evaluations: Sequence[Evaluation]
    ) -> Self:
        """Of the validated front, or the best so far.

        Raises NotMeasuredError before there is something to compare with.
        """
        front = read_front(folder)
        finished = front is not None and front.evaluations == len(evaluations)
        if front is None or not finished:
            front = provisional_front(evaluations, experiment)
        return cls(
            title=experiment.name,
            front=front,
            evaluations=evaluations,
            predictors=[PredictorReport.from_json(e) for e in _kept(folder.predictors, [])],
            finished=finished,
            data=read_account(folder),
            objectives=experiment.parsed_objectives(),
            space=SearchSpace.from_json(read_json(folder.space)),
            effects=_kept(folder.effects, {}) if finished else {},
            profiles=_kept(folder.profile, {}) if finished else {},
            cards=_cards(front, folder) if finished else {},
            confusion=_confusion(front, folder) if finished else None,
            trials=read_trials(folder),
            settings=experiment.model_dump(mode="json", exclude={"name"}),
            folder=str(folder.path),
        )


def _kept(path: Path, otherwise: Any) -> Any:
    """What a file of the run folder holds, if it is there."""
    return read_json(path) if path.exists() else otherwise


def _cards(front: Front, folder: RunFolder) -> dict[str, str]:
    """Of models that are exported anew, and were stopped in between, the old ones are gone."""
    places = {model.name: folder.model(model.name) / "README.md" for model in front.models}
    there = {name: path for name, path in places.items() if path.exists()}
    return {name: path.read_text(encoding="utf-8") for name, path in there.items()}


def _confusion(front: Front, folder: RunFolder) -> Confusion | None:
    """None where no outcomes were kept, or the reference itself is recommended."""
    low = front.low
    files = [folder.outcomes / f"{name}.npz" for name in (front.recommended, low)]
    if front.recommended == low or not all(file.exists() for file in files):
        return None
    ours, theirs = (read_outcomes(file)["test"] for file in files)
    account = read_account(folder)
    return Confusion.of(ours, theirs, account.label_names if account else ())


def code_of(card: str) -> str:
    """The Python of a model card that runs its model, empty where it has none."""
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    return found[1] if found else ""
