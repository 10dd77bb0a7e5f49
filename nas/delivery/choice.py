"""The choice of what is shipped; where models are polished, each by what those before it gained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from nas.delivery.selection import Pick, pick_models, wanted
from nas.evaluation.record import Evaluation, searched
from nas.experiment.given import with_values
from nas.experiment.schema import Experiment
from nas.run.progress import Reporter
from nas.training.finetune import FineTuner


@dataclass(frozen=True)
class Choice:
    """Chooses among what was evaluated, and polishes it.

    lenient: whether constraints that nothing keeps are left out. probes: keys of candidates that
    were polished to foretell others.
    """

    evaluations: Sequence[Evaluation]
    experiment: Experiment
    lenient: bool
    reporter: Reporter
    fine_tuner: FineTuner | None = None
    probes: Collection[str] = ()

    def picks(self) -> list[Pick]:
        """References, then the chosen candidates, fastest first."""
        choice = self._within_reach()
        found = choice._wanted([]) if self.fine_tuner is None else choice._in_turn(self.fine_tuner)
        return pick_models(self.evaluations, found)

    def _within_reach(self) -> Choice:
        """Without constraints, if nothing keeps them and nobody stated them."""
        if self._wanted([]):
            return self
        limits = ", ".join(self.experiment.constraints)
        if not self.lenient:
            self.reporter.say(
                f"no candidate that was measured keeps the constraints ({limits}): only the "
                "references are exported; loosen one in constraints, or raise search.evaluations, "
                "and run again"
            )
            return self
        self.reporter.say(
            f"nothing that was measured is expected to keep {limits}, what is offered for some "
            "need: what comes nearest is exported"
        )
        return replace(self, experiment=with_values(self.experiment, {"constraints": ()}))

    def _in_turn(self, fine_tuner: FineTuner) -> list[Evaluation]:
        """Choose and polish one after the other, by what those before gained.

        Where the first was meant for no loss and misses it, the next is more accurate; where it
        gained more than was foretold, the next need is met by a faster one.
        """
        chosen: list[Evaluation] = []
        while len(chosen) < self.experiment.export.models:
            left = [e for e in self._wanted(chosen) if e not in chosen]
            if not left:
                break
            later = min(len(left), self.experiment.export.models - len(chosen)) - 1
            fine_tuner.train(left[:1], later)
            chosen.append(left[0])
        return chosen

    def _wanted(self, chosen: Sequence[Evaluation]) -> list[Evaluation]:
        """By what is expected after probes and these were polished, whatever else was before."""
        if self.fine_tuner is None:
            return wanted(self.evaluations, self.experiment)
        shipped = [e.candidate.key for e in chosen]
        forecast = self.fine_tuner.forecast.by({*self.probes, *shipped})
        foretold = forecast.foretold(searched(self.evaluations))
        return wanted(self.evaluations, self.experiment, foretold, shipped)
