"""Fine-tuning of the chosen sub-networks, each alone and under its own policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hardware.formats.weight_memo import WeightMemo
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.record import Evaluation
from nas.evaluation.score_meter import RuntimeScore
from nas.run.pace import Pace
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, read_json, remove_others, sha256, write_json
from nas.training.polish_forecast import LEAST, Polished, PolishForecast, few_bits
from nas.training.train_supernet import read_network, resumable
from supernets.data.data import Split
from supernets.families.super_network import WEIGHTS_FILE, SuperNetwork
from supernets.metrics.classes import ACCURACY
from supernets.metrics.metric import Quality
from supernets.settings import PolishSettings
from supernets.training.tune import Polisher

SCORE_FILE = "validated.json"
TEACHER = "teacher"
LEAST_SHARE = 0.25
"""Part of its planned time below which a polish is not begun."""


class Score(NamedTuple):
    """A metric's value on validation, and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class FineTuner:
    """Fine-tunes candidates of one run; what is finished is read back from the run folder.

    full: the full network in FP32, which teaches; where nothing but a checkpoint's answers is
    learnt, `start` gives the network of that. metric: by which polishing gains. least: see
    `PolishForecast`.
    """

    settings: PolishSettings
    builder: CandidateBuilder
    full: Evaluation
    train_split: Split
    validation: Split
    folder: RunFolder
    seed: int
    reporter: Reporter
    metric: Quality = ACCURACY
    pace: Pace = field(default_factory=Pace)
    start: Callable[[], SuperNetwork] | None = None
    least: int = LEAST

    def train(self, evaluations: Sequence[Evaluation], later: int = 0) -> None:
        """Polish candidates and measure what that gained, as far as the run folder has it not.

        Each gets an equal share of the time there is, as do those that come later; one whose share
        is too short stays as found.
        """
        for number, evaluation in enumerate(evaluations):
            key, others = evaluation.candidate.key, len(evaluations) - number + later
            if (self._place(key) / SCORE_FILE).exists():
                continue
            if self.pace.left_s("polish") < LEAST_SHARE * self.pace.polish_s * others:
                self.reporter.say(f"{key}: not polished, the time for that is used up")
                continue
            teacher = partial(self.teacher, others)
            self._train(evaluation, self._place(key), self.settings, teacher, others)
        if not later and (gained := self.forecast.gained()):
            self.reporter.say(f"polishing: {gained}")

    def shipped(self, evaluation: Evaluation) -> tuple[CandidateBuilder, float]:
        """What builds a trained candidate, and its value of the metric on validation then.

        Polished, unless that is worse by more than a standard error: as it was found its score is
        the best of many measured on the same samples, and so too good by about as much.
        """
        place, found = self._place(evaluation.candidate.key), evaluation.metrics[self.metric.name]
        if not (place / SCORE_FILE).exists():
            return self.builder, found
        score = _score(place)
        if self.metric.worse_by(score.value, found) <= score.error:
            return self._polished(place), score.value
        return self.builder, found

    def score(self, builder: CandidateBuilder, candidate: Candidate) -> Score:
        """A candidate's model on validation, as the search measured it."""
        given = RuntimeScore(builder, self.validation).predictions(builder.build(candidate))
        return Score(given.score(self.metric), given.standard_error(self.metric))

    def teacher(self, others: int) -> SuperNetwork:
        """The full network, polished first if the settings say so and validation gains; where there
        is nothing to learn but a checkpoint's answers, the checkpoint's."""
        if self.train_split.task.taught_alone and self.start is not None:
            return self.start()
        own = self.settings.teacher
        if own is None:
            return self._tuned()
        place = self._place(TEACHER)
        settings = self.settings.model_copy(update=own.model_dump())
        self._train(self.full, place, settings, self._tuned, others + 1)
        before = self.full.metrics[self.metric.name]
        gained = self.metric.worse_by(_score(place).value, before) < 0
        return read_network(place) if gained else self._tuned()

    def _tuned(self) -> SuperNetwork:
        return read_network(self.folder.supernet)

    def forget_others(self) -> None:
        """Remove what other settings polished."""
        remove_others(self.folder.polished, {self._shelf})

    @property
    def _shelf(self) -> str:
        """Names the settings, so that what others polished is not taken."""
        return sha256(self.settings.model_dump_json(exclude={"probes"}).encode())[:12]

    def _place(self, name: str) -> Path:
        return self.folder.polished / self._shelf / name

    def _train(
        self,
        evaluation: Evaluation,
        place: Path,
        settings: PolishSettings,
        teacher: Callable[[], SuperNetwork],
        others: int,
    ) -> None:
        """Polish a candidate into `place` and measure it, as far as that is not done.

        others: trainings that share the time, this one among them.
        """
        if (place / SCORE_FILE).exists():
            return
        candidate, found = evaluation.candidate, evaluation.metrics[self.metric.name]
        if not (place / WEIGHTS_FILE).exists():
            known, network = teacher(), self._tuned()
            levels = self.builder.round_copy(network, candidate)
            share_s = self.pace.now_s + self.pace.left_s("polish") / others
            polisher = Polisher(
                network,
                known,
                dict(candidate.architecture),
                candidate.policy,
                self.train_split,
                settings,
                self.seed,
                self.builder.scheme,
                levels,
            )
            place.mkdir(parents=True, exist_ok=True)
            left_s = lambda: share_s - self.pace.now_s  # noqa: E731 # a clock that runs down
            name = f"polishing-{place.name}"
            folder, room = RunFolder(place), self.pace.room.get("polish", 1.0)
            with resumable(polisher, name, folder, self.reporter, left_s, room):
                polisher.network.save(place, self.builder.space)
        score, told = self.score(self._polished(place), candidate), self._foretold(evaluation)
        kept = {"before": found, "few_bits": few_bits(candidate)}
        write_json(place / SCORE_FILE, {**score._asdict(), **kept})
        self.reporter.say(
            f"{place.name}: {found:.4f}, polished {score.value:.4f} on validation{told}"
        )

    def _foretold(self, evaluation: Evaluation) -> str:
        """What was expected of a candidate, in words, where others were polished before it."""
        forecast = replace(self.forecast, least=1)
        found = forecast.foretold([evaluation]).get(evaluation.candidate.key)
        if evaluation.role != "search" or found is None:
            return ""
        return (
            f" ({found.score:.4f} +- {found.doubt:.4f} was expected from {len(forecast.known)} "
            "others)"
        )

    @property
    def forecast(self) -> PolishForecast:
        """What polishing will make of other candidates, from those that it was tried on."""
        known = {}
        for file in sorted(self._place("").glob(f"*/{SCORE_FILE}")):
            kept = read_json(file)
            if file.parent.name != TEACHER and "before" in kept:
                row = Polished(kept["before"], kept["value"], kept["few_bits"])
                known[file.parent.name] = row
        full = self.full.metrics[self.metric.name]
        return PolishForecast(self.metric, full, known, self.least)

    def _polished(self, place: Path) -> CandidateBuilder:
        """Weights of few bits lie at the levels that they were trained at."""
        network = read_network(place)
        return replace(self.builder, supernet=network, memo=WeightMemo(), feedback=None, _ranges={})


def _score(place: Path) -> Score:
    kept = read_json(place / SCORE_FILE)
    return Score(kept["value"], kept["error"])
