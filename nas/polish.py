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
from supernets.base import WEIGHTS_FILE
from supernets.data import Split
from supernets.settings import PolishSettings
from supernets.tune import Polisher

SCORE_FILE = "score.json"
Score = Callable[[Workbench, Candidate], float]


@dataclass(frozen=True)
class Polish:
    """Polishes candidates of one run; what is finished is read back from the run folder.

    split: training samples.
    score: validation accuracy of a candidate's exported model, as the search measured it.
    """

    settings: PolishSettings
    workbench: Workbench
    split: Split
    score: Score
    folder: RunFolder
    seed: int
    reporter: Reporter

    def train(self, evaluation: Evaluation) -> None:
        """Polish one candidate and measure what that gained, unless the run folder has it."""
        candidate, found = evaluation.candidate, evaluation.metrics["accuracy"]
        place = self._place(candidate)
        if (place / SCORE_FILE).exists():
            return
        if not (place / WEIGHTS_FILE).exists():
            self._train(candidate, place)
        accuracy = self.score(self._polished(candidate), candidate)
        write_json(place / SCORE_FILE, {"accuracy": accuracy})
        self.reporter.say(f"{candidate.key}: {found:.4f}, polished {accuracy:.4f} on validation")

    def better(self, evaluation: Evaluation) -> tuple[Workbench, float]:
        """What builds a trained candidate at its best, and its validation accuracy then.

        Polished or as it was found: whichever has the higher validation accuracy.
        """
        candidate, found = evaluation.candidate, evaluation.metrics["accuracy"]
        score = read_json(self._place(candidate) / SCORE_FILE)
        accuracy = float(score["accuracy"])
        return (
            (self._polished(candidate), accuracy) if accuracy > found else (self.workbench, found)
        )

    def _place(self, candidate: Candidate) -> Path:
        """Where a candidate's network is kept, away from those that other settings polished."""
        settings = sha256(self.settings.model_dump_json().encode())[:12]
        return self.folder.polished / settings / candidate.key

    def _train(self, candidate: Candidate, place: Path) -> None:
        polisher = Polisher(
            read_network(self.folder.supernet),
            dict(candidate.architecture),
            candidate.policy,
            self.split,
            self.settings,
            self.seed,
            self.workbench.scheme,
        )
        place.mkdir(parents=True, exist_ok=True)
        with resumable(polisher, f"polishing-{candidate.key}", RunFolder(place), self.reporter):
            polisher.network.save(place, self.workbench.space)

    def _polished(self, candidate: Candidate) -> Workbench:
        network = read_network(self._place(candidate))
        return replace(self.workbench, supernet=network, memo=WeightMemo(), _ranges={})
