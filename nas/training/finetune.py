"""Fine-tuning of the chosen sub-networks, each alone and under its own policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hardware.formats.weight_memo import WeightMemo
from nas.evaluation.accuracy_meter import RuntimeAccuracy
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.record import Evaluation
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, read_json, remove_others, sha256, write_json
from nas.training.train_supernet import read_network, resumable
from supernets.data.data import Split
from supernets.families.super_network import WEIGHTS_FILE, SuperNetwork
from supernets.settings import PolishSettings
from supernets.training.tune import Polisher

ACCURACY_FILE = "score.json"


@dataclass(frozen=True)
class FineTuner:
    """Fine-tunes candidates of one run; what is finished is read back from the run folder.

    full: the full network in FP32, which teaches.
    """

    settings: PolishSettings
    builder: CandidateBuilder
    full: Evaluation
    train_split: Split
    validation: Split
    folder: RunFolder
    seed: int
    reporter: Reporter

    def train(self, evaluation: Evaluation) -> None:
        """Polish one candidate and measure what that gained, unless the run folder has it."""
        self._train(evaluation, self._place(evaluation.candidate.key), self.settings, self._teacher)

    def shipped(self, evaluation: Evaluation) -> tuple[CandidateBuilder, float]:
        """What builds a trained candidate, and its validation accuracy then.

        Polished, unless that is worse by more than a standard error: as it was found its accuracy
        is the best of many measured on the same samples, and so too high by about as much.
        """
        place, found = self._place(evaluation.candidate.key), evaluation.metrics["accuracy"]
        accuracy, error = _accuracy(place), (found * (1 - found) / len(self.validation)) ** 0.5
        if accuracy >= found - error:
            return self._polished(place), accuracy
        return self.builder, found

    def accuracy(self, builder: CandidateBuilder, candidate: Candidate) -> float:
        """Validation accuracy of a candidate's model, as the search measured it."""
        return RuntimeAccuracy(builder, self.validation).accuracy(builder.build(candidate))

    def _teacher(self) -> SuperNetwork:
        """The full network, polished first if the settings say so and validation gains."""
        own = self.settings.teacher
        if own is None:
            return self._tuned()
        place = self._place("teacher")
        settings = self.settings.model_copy(update=own.model_dump())
        self._train(self.full, place, settings, self._tuned)
        gained = _accuracy(place) > self.full.metrics["accuracy"]
        return read_network(place) if gained else self._tuned()

    def _tuned(self) -> SuperNetwork:
        return read_network(self.folder.supernet)

    def forget_others(self) -> None:
        """Remove what other settings polished."""
        remove_others(self.folder.polished, {self._shelf})

    @property
    def _shelf(self) -> str:
        """Names the settings, so that what others polished is not taken."""
        return sha256(self.settings.model_dump_json().encode())[:12]

    def _place(self, name: str) -> Path:
        return self.folder.polished / self._shelf / name

    def _train(
        self,
        evaluation: Evaluation,
        place: Path,
        settings: PolishSettings,
        teacher: Callable[[], SuperNetwork],
    ) -> None:
        """Polish a candidate into `place` and measure it, as far as that is not done."""
        if (place / ACCURACY_FILE).exists():
            return
        candidate, found = evaluation.candidate, evaluation.metrics["accuracy"]
        if not (place / WEIGHTS_FILE).exists():
            polisher = Polisher(
                self._tuned(),
                teacher(),
                dict(candidate.architecture),
                candidate.policy,
                self.train_split,
                settings,
                self.seed,
                self.builder.scheme,
            )
            place.mkdir(parents=True, exist_ok=True)
            with resumable(polisher, f"polishing-{place.name}", RunFolder(place), self.reporter):
                polisher.network.save(place, self.builder.space)
        accuracy = self.accuracy(self._polished(place), candidate)
        write_json(place / ACCURACY_FILE, {"accuracy": accuracy})
        self.reporter.say(f"{place.name}: {found:.4f}, polished {accuracy:.4f} on validation")

    def _polished(self, place: Path) -> CandidateBuilder:
        return replace(self.builder, supernet=read_network(place), memo=WeightMemo(), _ranges={})


def _accuracy(place: Path) -> float:
    return float(read_json(place / ACCURACY_FILE)["accuracy"])
