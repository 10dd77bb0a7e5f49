"""Writing a candidate as a folder that plain ONNX Runtime and Hugging Face clients open."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from hardware.files import replacing, write_atomically
from hardware.formats.fp32 import FP32
from hardware.graph.model_file import save_model
from hardware.kernel_profile import what_ran
from hardware.portability.agreement import Samples, shipped_samples
from hardware.session import open_session, predict
from hardware.target import Target
from nas.delivery.serving import lay_out
from nas.evaluation.built_candidate import BuiltCandidate
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder, Inputs
from nas.experiment.schema import ExportSettings
from nas.run.run_folder import write_json
from supernets.data.data import TaskData
from supernets.data.text import TextPreprocessor
from supernets.pretrained.config_json import export_config

PARITY = 1e-4
"""Largest difference of logits between torch and the FP32 ONNX graph, relative above 1."""
PARITY_SAMPLES = 8


class ExportError(ValueError):
    """A model that must not be shipped."""


@dataclass(frozen=True)
class Exporter:
    """Writes candidates of one run, none that is not what it is said to be."""

    builder: CandidateBuilder
    data: TaskData
    allow_fallback: bool = False
    settings: ExportSettings = field(default_factory=ExportSettings)

    def write(self, candidate: Candidate, folder: Path) -> str:
        """Write model, policy, configuration and preprocessor; the folder appears whole.

        Returns what is quantized, in words. Raises ExportError when the FP32 graph does not compute
        what the torch network computes, PolicyError when the written graph is not what the policy
        asks, FallbackError when a layer or node did not run as asked.
        """
        self.check_parity(candidate)
        built = self.builder.build(candidate)
        with replacing(folder) as part:
            return self._write(built, part)

    def _write(self, built: BuiltCandidate, part: Path) -> str:
        """Write everything of one model into a new folder."""
        candidate, coverage = built.candidate, built.coverage
        part.mkdir()
        save_model(built.model, part / "model.onnx")
        self._write_samples(built, part)
        ran = what_ran(
            part / "model.onnx", built.example, built.target, allow_fallback=self.allow_fallback
        )
        if ran.fallbacks:
            coverage += f"; {len(ran.fallbacks)} did not run as asked"
        told = {"key": candidate.key, "coverage": coverage, "fallbacks": list(ran.fallbacks)}
        write_json(part / "policy.json", {**candidate.to_json(), **told})
        config = export_config(
            self.builder.supernet.config, dict(candidate.architecture), self.data.task
        )
        if isinstance(self.data.preprocessor, TextPreprocessor):
            config |= self.data.preprocessor.config_json(dict(candidate.architecture))
        write_atomically(part / "config.json", json.dumps(config, indent=2) + "\n")
        self.data.preprocessor.save(part, dict(candidate.architecture))
        self.data.task.write_beside(part, self.builder.supernet.head.out_features)
        lay_out(part, self.settings, built.target)
        return coverage

    def _write_samples(self, built: BuiltCandidate, part: Path) -> None:
        """Write a few inputs and what the model makes of them, for `simqnas verify`."""
        example = sum(array.nbytes for array in built.example.values()) // built.target.batch_size
        inputs = self._samples(built.candidate, shipped_samples(example))
        session = open_session(part / "model.onnx", built.target)
        Samples.of(inputs, lambda given: predict(session, [given])).save(part)

    def _samples(self, candidate: Candidate, count: int) -> Inputs:
        """The first validation samples as the candidate takes them."""
        split = self.data.validation.seen_by(dict(candidate.architecture))
        return self.builder.inputs(candidate, next(iter(split.batches(count))).inputs)

    def check_parity(self, candidate: Candidate) -> None:
        """Compare the torch network with its FP32 graph on validation samples."""
        inputs = self._samples(candidate, PARITY_SAMPLES)
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            expected = self.builder.network(candidate)(**tensors).numpy()
        plain = candidate.with_precision(FP32)
        session = open_session(self.builder.model(plain).SerializeToString(), Target())
        given = predict(session, [inputs])
        difference = float(np.abs(given - expected).max())
        allowed = PARITY * max(1.0, float(np.abs(expected).max()))
        if not difference <= allowed:
            raise ExportError(
                f"candidate {candidate.key}: logits of the FP32 ONNX graph differ from torch's by "
                f"{difference:.2e}, allowed are {allowed:.2e}; the model is not exported"
            )
