"""The final front: exported, measured on the test split, and timed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hardware.files import write_atomically
from hardware.kernel_profile import FallbackError
from hardware.latency import Rounds
from hardware.portability.agreement import verify_folder
from hardware.portability.runtimes import Runtime
from hardware.session import open_session
from hardware.writing.verify import PolicyError
from nas.delivery.exporter import Exporter, ExportError
from nas.delivery.model_card import model_card
from nas.delivery.outcomes import write_outcomes
from nas.delivery.promise import Promise
from nas.delivery.requests import Requests
from nas.delivery.results import ValidatedModel, Versus
from nas.delivery.selection import Pick, unscored
from nas.evaluation.baselines import low_reference
from nas.evaluation.latency_meter import LatencyMeter
from nas.evaluation.score_meter import RuntimeScore
from nas.run.data_record import read_account
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder, read_json, remove_others
from nas.training.finetune import FineTuner
from supernets.data.vocabulary.written import told_of
from supernets.metrics.classes import ACCURACY
from supernets.metrics.metric import Quality
from supernets.space.space import VOCABULARY
from supernets.tasks.predictions import Predictions

Answers = Mapping[str, Predictions]
"""Split -> what a model answered about it."""
VALIDATION_REPEATS = 90
REFUSED = (ExportError, FallbackError, PolicyError)
"""What keeps one model from being exported, and the others not."""


def promised(ours: Answers, low: Answers, metric: Quality) -> Promise:
    """What a model's answers beside those of the reference in low precision promise of test."""
    found = {name: answers.compared(low[name], metric) for name, answers in ours.items()}
    kept, samples = found.get("kept_back"), found["test"].samples
    return Promise.of(found["validation"], kept, samples)


def _vocabulary(model: ValidatedModel, run: RunFolder) -> list[str]:
    """What the model's vocabulary costs, in lines, if it is a smaller one."""
    account, size = read_account(run), dict(model.candidate.architecture).get(VOCABULARY)
    known = {} if account is None else account.vocabularies
    cut = size is not None and str(size) != max(known, key=int, default="")
    return list(told_of(str(size), known)) if cut else []


@dataclass(frozen=True)
class Validator:
    """Exports chosen candidates and measures the files that were written.

    runtimes: where every model is run once more, and its answers compared. metric: by which models
    are scored. requests: that are timed as a whole, None where another machine is the target.
    """

    exporter: Exporter
    latency: LatencyMeter
    seed: int
    fine_tuner: FineTuner | None = None
    runtimes: Sequence[Runtime] = ()
    metric: Quality = ACCURACY
    requests: Requests | None = None

    def validate(
        self, picks: Sequence[Pick], run: RunFolder, reporter: Reporter
    ) -> list[ValidatedModel]:
        """Write `models/<name>/` for every pick and measure all of them together."""
        models, stage = run.models, reporter.stage("validation")
        validated, answers = [], {}
        for number, pick in enumerate(picks):
            stage.update(number, len(picks) + 1, pick.name)
            try:
                model, answers[pick.name] = self._export(pick, models / pick.name)
                validated.append(model)
            except REFUSED as error:
                if pick.evaluation.role == "reference":
                    raise
                reporter.say(f"{pick.name} is not exported: {error}")
        stage.update(len(picks), len(picks) + 1, "latency")
        timed = self._time_requests(self._time(validated, models), models)
        validated = self._compare(timed, answers)
        for name, given in answers.items():
            write_outcomes(run.outcomes / f"{name}.npz", given)
        for model in validated:
            folder = models / model.name
            file = folder / "preprocessor_config.json"
            preprocessing = read_json(file) if file.exists() else None
            config = read_json(folder / "config.json")
            card = model_card(
                model.name,
                model.candidate,
                config,
                preprocessing,
                model,
                folder,
                self.metric.title,
                self.exporter.data.task,
                self.exporter.builder.supernet.config.sample,
                _vocabulary(model, run),
            )
            write_atomically(folder / "README.md", card)
        remove_others(models, {model.name for model in validated})
        if self.fine_tuner is not None:
            self.fine_tuner.forget_others()
        stage.update(len(picks) + 1, len(picks) + 1, "")
        return validated

    def _export(self, pick: Pick, folder: Path) -> tuple[ValidatedModel, Answers]:
        exporter, model = self.exporter, unscored(pick, self.metric)
        if self.fine_tuner is not None and pick.evaluation.role == "search":
            builder, accuracy = self.fine_tuner.shipped(pick.evaluation)
            exporter = replace(exporter, builder=builder)
            before = model.validation_score
            model = replace(model, validation_score=accuracy, unpolished_score=before)
        coverage = exporter.write(pick.evaluation.candidate, folder)
        path = folder / "model.onnx"
        session, data = open_session(path, exporter.builder.target), exporter.data
        splits = {"validation": data.validation, "kept_back": data.kept_back, "test": data.test}
        answers = {
            name: RuntimeScore(exporter.builder, split).of_session(session, model.candidate)
            for name, split in splits.items()
            if split is not None
        }
        model = replace(
            model,
            test_score=answers["test"].score(self.metric),
            size_bytes=path.stat().st_size,
            coverage=coverage,
            agreements=tuple(verify_folder(folder, self.runtimes)),
        )
        return model, answers

    def _compare(
        self, models: Sequence[ValidatedModel], answers: Mapping[str, Answers]
    ) -> list[ValidatedModel]:
        """Fill in what is promised of each, and how sure the differences on test are."""
        references = [model.name for model in models if model.role == "reference"]
        low = low_reference(references)
        compared = []
        for model in models:
            ours = answers[model.name]
            versus = dict(model.versus)
            for name in references:
                interval = ours["test"].compared(answers[name]["test"], self.metric).interval
                versus[name] = replace(versus[name], score_low=interval[0], score_high=interval[1])
            promise = promised(ours, answers[low], self.metric)
            compared.append(replace(model, versus=versus, promise=promise))
        return compared

    def _time(self, models: Sequence[ValidatedModel], folder: Path) -> list[ValidatedModel]:
        """Fill in latencies and the comparison with each reference."""
        files = {m.name: folder / m.name / "model.onnx" for m in models}
        inputs = {m.name: self.exporter.builder.example(m.candidate) for m in models}
        rounds = self.latency.alternate(files, inputs, VALIDATION_REPEATS)
        references = [model for model in models if model.role == "reference"]
        timed = []
        for model in models:
            latency = rounds.latency(model.name)
            versus = {
                reference.name: self._versus(model, reference, rounds) for reference in references
            }
            timed.append(
                replace(
                    model,
                    latency_ms=latency.quartiles_ms,
                    latency_disturbed=latency.disturbed,
                    versus=versus,
                )
            )
        return timed

    def _time_requests(
        self, models: Sequence[ValidatedModel], folder: Path
    ) -> list[ValidatedModel]:
        """Fill in what whole requests take, preprocessing included."""
        places = {model.name: folder / model.name for model in models}
        shapes = {m.name: self.exporter.builder.example(m.candidate) for m in models}
        rounds = None if self.requests is None else self.requests.timed(places, shapes)
        if rounds is None:
            return list(models)
        timed = {name: rounds.latency(name) for name in places}
        return [
            replace(
                model,
                end_to_end_ms=timed[model.name].quartiles_ms,
                end_to_end_disturbed=timed[model.name].disturbed,
            )
            for model in models
        ]

    def _versus(self, model: ValidatedModel, reference: ValidatedModel, rounds: Rounds) -> Versus:
        rng = np.random.default_rng(self.seed)
        faster = rounds.ratio(reference.name, model.name, rng)
        assert model.test_score is not None
        assert reference.test_score is not None
        return Versus(
            score_difference=model.test_score - reference.test_score,
            latency_ratio=faster.value,
            latency_ratio_low=faster.low,
            latency_ratio_high=faster.high,
            latency_disturbed=faster.disturbed,
            size_ratio=reference.size_bytes / model.size_bytes,
        )
