"""Fine-tuning of the chosen sub-networks, each alone and under its own policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hardware.memo import WeightMemo
from nas.candidate import Candidate
from nas.ledger import Evaluation
from nas.parcels import sha256
from nas.prepare import read_network, resumable
from nas.progress import Reporter
from nas.run_folder import RunFolder, read_json, write_json
from nas.workbench import Workbench
from supernets.base import WEIGHTS_FILE, SuperNetwork
from supernets.data import Split
from supernets.settings import PolishSettings
from supernets.tune import Polisher

SCORE_FILE = "score.json"
Score = Callable[[Workbench, Candidate], float]


@dataclass(frozen=True)
class Polish:
    """Polishes candidates of one run; what is finished is read back from the run folder.

    full: the full network in FP32, which teaches.
    split: training samples.
    score: validation accuracy of a candidate's exported model, as the search measured it.
    """

    settings: PolishSettings
    workbench: Workbench
    full: Evaluation
    split: Split
    score: Score
    folder: RunFolder
    seed: int
    reporter: Reporter

    def train(self, evaluation: Evaluation) -> None:
        """Polish one candidate and measure what that gained, unless the run folder has it."""
        place = self._place(evaluation.candidate.key)
        if not (place / SCORE_FILE).exists():
            self._train(evaluation, place, self.settings, self._teacher())

    def better(self, evaluation: Evaluation) -> tuple[Workbench, float]:
        """What builds a trained candidate at its best, and its validation accuracy then.

        Polished or as it was found: whichever has the higher validation accuracy.
        """
        place, found = self._place(evaluation.candidate.key), evaluation.metrics["accuracy"]
        accuracy = float(read_json(place / SCORE_FILE)["accuracy"])
        return (self._polished(place), accuracy) if accuracy > found else (self.workbench, found)

    def _teacher(self) -> SuperNetwork:
        """The full network, polished first if the settings say so and validation gains."""
        tuned = read_network(self.folder.supernet)
        if not self.settings.teacher_epochs:
            return tuned
        place = self._place("teacher")
        if not (place / SCORE_FILE).exists():
            settings = self.settings.model_copy(update={"epochs": self.settings.teacher_epochs})
            self._train(self.full, place, settings, tuned)
        accuracy = read_json(place / SCORE_FILE)["accuracy"]
        return read_network(place) if accuracy > self.full.metrics["accuracy"] else tuned

    def _place(self, name: str) -> Path:
        """Where a network is kept, away from those that other settings polished."""
        settings = sha256(self.settings.model_dump_json().encode())[:12]
        return self.folder.polished / settings / name

    def _train(
        self, evaluation: Evaluation, place: Path, settings: PolishSettings, teacher: SuperNetwork
    ) -> None:
        """Polish a candidate unless its weights are in `place`; leave its score there."""
        candidate, found = evaluation.candidate, evaluation.metrics["accuracy"]
        if not (place / WEIGHTS_FILE).exists():
            polisher = Polisher(
                read_network(self.folder.supernet),
                teacher,
                dict(candidate.architecture),
                candidate.policy,
                self.split,
                settings,
                self.seed,
                self.workbench.scheme,
            )
            place.mkdir(parents=True, exist_ok=True)
            with resumable(polisher, f"polishing-{place.name}", RunFolder(place), self.reporter):
                polisher.network.save(place, self.workbench.space)
        accuracy = self.score(self._polished(place), candidate)
        write_json(place / SCORE_FILE, {"accuracy": accuracy})
        self.reporter.say(f"{place.name}: {found:.4f}, polished {accuracy:.4f} on validation")

    def _polished(self, place: Path) -> Workbench:
        return replace(self.workbench, supernet=read_network(place), memo=WeightMemo(), _ranges={})
