"""One candidate, measured once for every objective: the exported model in ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from hardware.graph.verify import verify
from hardware.latency import METHOD, Latency, latencies, measure
from hardware.session import Arrays, open_session, predict
from hardware.target import Target
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder
from nas.evaluation.fake_quant_accuracy import torch_accuracy
from nas.evaluation.latency_cache import LatencyCache
from nas.workers.remote_latency import LatencyQueue
from supernets.data.data import Split

LATENCY_REPEATS = 30
PREPROCESSED = 64
"""Samples preprocessed together; they are still served in the target's batch size."""


class EvaluationError(ValueError):
    """A candidate that cannot be evaluated; the reason is recorded and the search goes on."""


@dataclass(frozen=True)
class Evaluator:
    """Measures candidates of one run.

    `baseline` is the model whose latency is taken alternately with every candidate's: the ratio
    of the two is what a busy machine leaves alone, the more so the less they differ. With `fast`,
    accuracy is that of the model's fake-quantized twin in torch. With `elsewhere`, latency comes
    from another device.
    """

    builder: CandidateBuilder
    validation: Split
    target: Target
    cache: LatencyCache
    baseline: Candidate
    fast: bool = False
    elsewhere: LatencyQueue | None = None
    clock: Callable[[], float] = time.perf_counter

    def __call__(self, candidate: Candidate) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics by name and the details behind them. Raises EvaluationError without any."""
        started = self.clock()
        model = self.builder.model(candidate)
        coverage = verify(model, candidate.policy)
        content = model.SerializeToString()
        session = open_session(content, self.target)
        if self.elsewhere is not None:  # measured there while accuracy is computed here
            self._ask(self.elsewhere, candidate, content)
        accuracy = self._accuracy(candidate, session)
        latency, device = (
            self._latency(candidate, graph_digest(model), session),
            self.target.describe(),
        )
        if self.elsewhere is not None:
            device = dict(self.elsewhere.seconds(candidate.key)[1])
            if candidate != self.baseline:
                self.elsewhere.clear(candidate.key, candidate.key)
        metrics = {
            "accuracy": accuracy,
            "latency_ms": latency.median_ms,
            "size_bytes": float(len(content)),
            **self.builder.costs(candidate),
        }
        details = {
            "latency": asdict(latency),
            "coverage": str(coverage),
            "target": device,
            "duration_s": self.clock() - started,
        }
        return metrics, details

    def _accuracy(self, candidate: Candidate, session: onnxruntime.InferenceSession) -> float:
        split, target = self.validation, self.target
        if self.fast:
            return torch_accuracy(self.builder, candidate, split, target.batch_size)
        return split_accuracy(session, self.builder, candidate, split, target)

    def _latency(
        self, candidate: Candidate, graph: str, session: onnxruntime.InferenceSession
    ) -> Latency:
        """Latency relative to the baseline's, in the baseline's milliseconds.

        graph: digest of the candidate's graph.
        """
        if self.elsewhere is not None:
            return self._latency_from(self.elsewhere, candidate)
        conditions = self._conditions(candidate, graph)
        if candidate == self.baseline:
            return self.cache.get(
                conditions, lambda: self._measure({candidate: session})[candidate]
            )
        compared = self._baseline_graph, self._baseline_session
        baseline_latency = self._latency(self.baseline, *compared)

        def alternately() -> Latency:
            sessions = {candidate: session, self.baseline: self._baseline_session}
            found = self._measure(sessions)
            scale = baseline_latency.median_ms / found[self.baseline].median_ms
            return _scaled(found[candidate], scale)

        return self.cache.get(conditions, alternately)

    def _ask(self, elsewhere: LatencyQueue, candidate: Candidate, content: bytes) -> None:
        """Send a candidate and the baseline to be measured alternately."""
        if candidate != self.baseline:
            self._ask(elsewhere, self.baseline, self._baseline_content)
            models = {candidate.key: content, self.baseline.key: self._baseline_content}
        else:
            models = {candidate.key: content}
        compared = {candidate.key: candidate, self.baseline.key: self.baseline}
        inputs = {key: self.builder.example(compared[key], self.target) for key in models}
        elsewhere.submit(candidate.key, models, inputs, self.target, LATENCY_REPEATS)

    def _latency_from(self, elsewhere: LatencyQueue, candidate: Candidate) -> Latency:
        seconds, _ = elsewhere.seconds(candidate.key)
        found = latencies(seconds)
        if candidate == self.baseline:
            return found[candidate.key]
        baseline = self._latency_from(elsewhere, self.baseline)
        scale = baseline.median_ms / found[self.baseline.key].median_ms
        return _scaled(found[candidate.key], scale)

    def _measure(
        self, sessions: Mapping[Candidate, onnxruntime.InferenceSession]
    ) -> dict[Candidate, Latency]:
        named = {candidate.key: session for candidate, session in sessions.items()}
        inputs = {c.key: self.builder.example(c, self.target) for c in sessions}
        found = measure(named, inputs, repeats=LATENCY_REPEATS, clock=self.clock)
        return {candidate: found[candidate.key] for candidate in sessions}

    def _conditions(self, candidate: Candidate, graph: str) -> dict[str, Any]:
        """Everything a latency depends on."""
        inputs = self.builder.example(candidate, self.target)
        return {
            "graph": graph,
            "inputs": {name: list(array.shape) for name, array in inputs.items()},
            "target": self.target.describe(),
            "repeats": LATENCY_REPEATS,
            "method": METHOD,
        }

    @cached_property
    def _baseline_content(self) -> bytes:
        content: bytes = self.builder.model(self.baseline).SerializeToString()
        return content

    @cached_property
    def _baseline_graph(self) -> str:
        return graph_digest(onnx.ModelProto.FromString(self._baseline_content))

    @cached_property
    def _baseline_session(self) -> onnxruntime.InferenceSession:
        return open_session(self._baseline_content, self.target)


def graph_digest(model: onnx.ModelProto) -> str:
    """Hash of what a model computes, its weights aside: nodes, functions, shapes and formats."""
    graph, digest = model.graph, hashlib.sha256()
    for part in (*graph.input, *graph.node, *model.functions):
        digest.update(part.SerializeToString(deterministic=True))
    for tensor in graph.initializer:
        digest.update(json.dumps([tensor.name, tensor.data_type, *tensor.dims]).encode())
        if tensor.data_type == onnx.TensorProto.INT64:  # shapes and places, never weights
            digest.update(tensor.raw_data)
    return digest.hexdigest()


def split_accuracy(
    session: onnxruntime.InferenceSession,
    builder: CandidateBuilder,
    candidate: Candidate,
    split: Split,
    target: Target,
) -> float:
    """Share of a split's samples that are classified correctly, served in the target's batches.

    Raises EvaluationError if a logit is not a number.
    """
    labels: list[NDArray[np.int64]] = []
    batch_size = target.batch_size

    def batches() -> Iterator[Arrays]:
        # Preprocessing many at once is what keeps a small model's evaluation short.
        for batch in split.batches(batch_size * -(-PREPROCESSED // batch_size)):
            labels.append(batch.labels.numpy())
            arrays = builder.inputs(candidate, batch.inputs)
            for start in range(0, len(batch.labels), batch_size):
                yield _served(arrays, slice(start, start + batch_size))

    logits = predict(session, batches())
    if not np.isfinite(logits).all():
        raise EvaluationError("logits are not finite")
    return float((logits.argmax(axis=1) == np.concatenate(labels)).mean())


def _served(arrays: Arrays, rows: slice) -> Arrays:
    """Some rows of a batch; texts without the columns that only pad them."""
    part = {name: array[rows] for name, array in arrays.items()}
    if "attention_mask" in part:
        length = int(part["attention_mask"].sum(axis=1).max())
        part = {name: array[:, :length] for name, array in part.items()}
    return part


def _scaled(latency: Latency, factor: float) -> Latency:
    return Latency(
        latency.median_ms * factor,
        latency.q1_ms * factor,
        latency.q3_ms * factor,
        latency.repeats,
    )
