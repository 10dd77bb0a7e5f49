"""Everything one run needs to measure and ship candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

from hardware.files import cache_folder, replacing
from hardware.graph.template import Template
from hardware.portability.runtimes import Runtime, parse_runtime
from nas.cost_models import supernet_problem
from nas.delivery.choice import Choice
from nas.delivery.exporter import Exporter
from nas.delivery.layer_profile import LayerProfile, profile_layers
from nas.delivery.offers import offers
from nas.delivery.requests import Requests
from nas.delivery.results import Front, ValidatedModel
from nas.delivery.validator import VALIDATION_REPEATS, Validator
from nas.evaluation.baselines import PLAIN, low_reference, measured_references, reference_candidates
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.error_feedback import ErrorFeedback
from nas.evaluation.evaluator import Evaluator
from nas.evaluation.fake_quant_score import FakeQuantScore
from nas.evaluation.latency_cache import LatencyCache
from nas.evaluation.latency_meter import LATENCY_REPEATS, LatencyMeter, LocalLatency
from nas.evaluation.record import Evaluation
from nas.evaluation.score_meter import RuntimeScore, ScoreMeter
from nas.experiment.schema import Experiment
from nas.ledger.ledger import Ledger
from nas.ledger.study import open_ledger
from nas.ledger.warm_start import Known, known_candidates
from nas.run.pace import Pace
from nas.run.progress import Reporter
from nas.run.run_folder import RunFolder
from nas.run.saved_experiment import is_derived
from nas.search.problem import SearchProblem
from nas.training.finetune import FineTuner
from nas.training.polish_forecast import LEAST
from nas.training.train_supernet import Preparation
from nas.workers.executors import Executor, InProcess, WorkerPool
from nas.workers.handover import open_latency_queue
from nas.workers.remote_latency import LatencyQueue
from nas.workers.remote_meter import RemoteLatency
from supernets.data.data import TaskData, calibration_batches
from supernets.families.super_network import SuperNetwork
from supernets.load import load_supernet, refuse_other_pieces
from supernets.open_data import noisy
from supernets.space.space import SearchSpace

SCORE_METERS: dict[str, type[RuntimeScore | FakeQuantScore]] = {
    "onnxruntime": RuntimeScore,
    "torch": FakeQuantScore,
}
"""Who asks candidates for answers, by the experiment's `evaluate`."""


def candidate_builder(
    experiment: Experiment,
    data: TaskData,
    supernet: SuperNetwork,
    space: SearchSpace,
    template: Template,
    calibration_samples: int = 512,
) -> CandidateBuilder:
    """What builds the candidates of an experiment."""
    scheme, target = experiment.quantization, experiment.target
    calibration = calibration_batches(data.train, calibration_samples)
    template = replace(template, opset=experiment.export.opset)
    feedback = ErrorFeedback.asked_by(scheme, supernet, calibration)
    return CandidateBuilder(
        supernet, space, template, scheme, calibration, target, train=data.train, feedback=feedback
    )


@dataclass(frozen=True)
class RunSession:
    """A tuned super-network with everything that is needed to measure and ship its candidates."""

    experiment: Experiment
    folder: RunFolder
    data: TaskData
    builder: CandidateBuilder
    ledger: Ledger
    reporter: Reporter
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def prepare(
        cls,
        experiment: Experiment,
        folder: RunFolder,
        data: TaskData,
        reporter: Reporter,
        pace: Pace | None = None,
    ) -> RunSession:
        """Load or make the super-network, export its template and open the ledger."""
        pace = pace or Pace()
        supernet, space = Preparation(experiment, data, folder, reporter, pace=pace).supernet()
        refuse_other_pieces(supernet, data)
        template = cls._template(supernet, space, folder, reporter)
        builder = candidate_builder(experiment, data, supernet, space, template)
        ledger = open_ledger(experiment, folder, space)
        if experiment.quantization.int4_kernel == "auto":
            builder = cls._with_int4_kernel(builder, experiment, ledger)
        return cls(experiment, folder, data, builder, ledger, reporter, pace)

    @staticmethod
    def _with_int4_kernel(
        builder: CandidateBuilder, experiment: Experiment, ledger: Ledger
    ) -> CandidateBuilder:
        """The builder with the run's INT4 kernel: one for all its machines and resumptions."""
        if (noted := ledger.state.int4_kernel) is not None:
            return builder.with_int4_kernel(noted)
        named = [parse_runtime(name) for name in experiment.export.verify]
        builder = builder.with_fastest_int4(cache_folder(), named)
        ledger.note(int4_kernel=builder.scheme.int4_kernel)
        return builder

    @staticmethod
    def _template(
        supernet: SuperNetwork, space: SearchSpace, folder: RunFolder, reporter: Reporter
    ) -> Template:
        path = folder.supernet / "template.onnx"
        if not path.exists():
            reporter.stage("exporting the template").update(0, 1)
            template = template_of(supernet, space)
            with replacing(path) as part:
                template.save(part)
        return Template.load(path)

    @cached_property
    def references(self) -> dict[str, Candidate]:
        """Reference name -> candidate."""
        return reference_candidates(self.builder)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Measures candidates on the validation split."""
        meter: ScoreMeter = SCORE_METERS[self.experiment.evaluate](
            self.builder, self.data.validation
        )
        scores = {key: known.scores for key, known in self.known.items()}
        return Evaluator(self.builder, meter, self.latency, self.experiment.qualities, scores)

    @cached_property
    def known(self) -> dict[str, Known]:
        """Key -> what another run of the same super-network knows of a candidate."""
        return known_candidates(self.folder)

    @cached_property
    def latency(self) -> LatencyMeter:
        """Measures latency where the driver of the run has noted."""
        # Not the one in FP32: beside other work its many more bytes slow it more than candidates.
        baseline = self.references[low_reference(self.references)]
        if self.latency_queue is not None:
            return RemoteLatency(self.builder, baseline, self.latency_queue)
        return LocalLatency(self.builder, baseline, LatencyCache(cache_folder() / "latency"))

    @cached_property
    def latency_queue(self) -> LatencyQueue | None:
        """The jobs of another device that measures latency, None where this one does."""
        if self.ledger.state.latency == "here":
            return None
        return open_latency_queue(self.experiment, self.folder)

    def executor(self, workers: int | None) -> AbstractContextManager[Executor]:
        """Who evaluates candidates; see `run` in the pipeline for `workers`."""
        if workers is None and not self.experiment.isolate:
            return nullcontext(InProcess(self.evaluator))
        number = 1 if workers is None else workers
        return WorkerPool(self.folder.path, number, self.experiment.storage)

    def problem(self, references: Mapping[str, Mapping[str, float]]) -> SearchProblem:
        """The search problem, relative constraints resolved."""
        return supernet_problem(self.experiment, self.builder, references)

    @property
    def exporter(self) -> Exporter:
        """Writes candidates as model folders."""
        allow_fallback = self.experiment.target.allow_fallback
        return Exporter(self.builder, self.data, allow_fallback, self.experiment.export)

    @property
    def front_settings(self) -> dict[str, object]:
        """What the experiment says about the front; it may change after the search."""
        return self.experiment.model_dump(mode="json", include={"export", "polish", "constraints"})

    @property
    def lenient(self) -> bool:
        """Whether nobody stated the constraints: they say where to look, and refuse nothing."""
        return is_derived("constraints", self.folder)

    def fine_tuner(self) -> FineTuner | None:
        """Who polishes candidates, None where that was not asked for. The references are known."""
        settings = self.experiment.polish
        if settings is None:
            return None
        full = measured_references(self.ledger.evaluations())[PLAIN]
        validation, train = self.data.validation, noisy(self.data, settings.token_noise)
        experiment, data = self.experiment, self.data
        return FineTuner(
            settings, self.builder, full, train, validation,
            self.folder, experiment.seed, self.reporter, experiment.quality, self.pace,
            lambda: load_supernet(experiment.model, data, experiment.seed).network,
            0 if self.lenient else LEAST,
        )  # fmt: skip

    def _runtimes(self) -> list[Runtime]:
        """Where exported models are run: as asked, else here, which takes the CPU for target."""
        named = self.experiment.export.verify
        if not named and self.builder.target.provider == "cpu":
            named = ("onnxruntime",)
        return [parse_runtime(name) for name in named]

    def _requests(self) -> Requests | None:
        """What is timed end to end; another machine that is the target has no samples."""
        if self.latency_queue is not None:
            return None
        source = self.data.source.splits["validation"]
        return Requests.of(source, self.data.task, self.builder.target)

    def profile(self, models: Sequence[ValidatedModel]) -> dict[str, dict[str, LayerProfile]]:
        """Exported model -> what each of its layers takes; times where this is the target."""
        here, target = self.latency_queue is None, self.builder.target
        return {
            model.name: profile_layers(
                self.folder.model(model.name) / "model.onnx",
                target,
                self.builder.example(model.candidate) if here else None,
                self.builder.macs(model.candidate),
            )
            for model in models
        }

    def validate(self, evaluations: list[Evaluation]) -> Front:
        """Choose, export and measure the front of what has been evaluated."""
        metric = self.experiment.quality
        fine_tuner = self.fine_tuner()
        probes = (self.ledger.state.probes or {}).get("keys", ())
        choice = Choice(
            evaluations, self.experiment, self.lenient, self.reporter, fine_tuner, probes
        )
        picks = choice.picks()
        sizes = [int(pick.evaluation.metrics["size_bytes"]) for pick in picks]
        self.folder.require_room(sum(sizes) + max(sizes), "validation")
        seed, runtimes = self.experiment.seed, self._runtimes()
        validator = Validator(
            self.exporter, self.latency, seed, fine_tuner, runtimes, metric, self._requests()
        )
        models = tuple(validator.validate(picks, self.folder, self.reporter))
        low = next(m for m in models if m.name == low_reference(self.references))
        no_loss, cost = self.experiment.export.accuracy_drop, self.experiment.cost
        offered = offers(models, metric, low, no_loss, cost)
        return Front(
            models=models,
            recommended=offered[0].model,
            offers=offered,
            metric=metric.name,
            evaluations=len(evaluations),
            conditions={
                **self.front_settings,
                "target": self.builder.target.describe(),
                "latency repeats in the search": LATENCY_REPEATS,
                "latency repeats of the front": VALIDATION_REPEATS,
                "polishing": fine_tuner.forecast.gained() if fine_tuner is not None else "none",
                "validation samples": len(self.data.validation),
                "samples kept back": len(self.data.kept_back or ()),
                "test samples": len(self.data.test),
            },
        )
