"""Whether the runtimes that models are to run in have the kernels that a scheme writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from hardware.doctor import Probe, one_layer
from hardware.formats.format import Format
from hardware.formats.policy import QuantPolicy
from hardware.formats.scheme import QuantScheme
from hardware.graph.graph_writer import MICROSOFT
from hardware.graph.static_activations import Ranges
from hardware.portability.agreement import Samples, compare, problems
from hardware.portability.runtimes import Runtime
from hardware.session import open_session, predict
from hardware.target import Target
from hardware.writing.materialize import materialize

LAYER = Probe("linear", (1, 3, 128), (32, 128))
"""Wide enough for one group of every size."""


def lacking_kernels(
    scheme: QuantScheme, formats: Iterable[Format], runtimes: Sequence[Runtime]
) -> list[str]:
    """A line for every format and runtime where a linear layer, as the scheme writes it, does not
    run or computes something else.

    It is tried where a kernel is ONNX Runtime's own: plain operators are every runtime's.
    """
    tried = formats if runtimes else ()
    return [line for entry in tried for line in _tried(scheme, entry, runtimes)]


def _tried(scheme: QuantScheme, entry: Format, runtimes: Sequence[Runtime]) -> Iterator[str]:
    rng = np.random.default_rng(0)
    template, weights = one_layer(LAYER, rng)
    ranges = Ranges({"x": (-4, 4)})
    model = materialize(template, weights, QuantPolicy({"layer": entry}), scheme, ranges)
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        return
    inputs = {"x": rng.standard_normal(LAYER.x, np.float32)}
    session = open_session(model.SerializeToString(), Target())
    samples = Samples.of(inputs, lambda given: predict(session, [given]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        for reason in problems(compare(path, samples, runtimes)):
            yield (
                f"quantization: {entry.name} linears with linear: {scheme.linear}, int4_kernel: "
                f"{scheme.int4_kernel} take a kernel of ONNX Runtime's own, which a runtime that "
                f"export.verify names does not have ({reason}); take linear: dynamic or qdq and "
                "int4_kernel: w4a8, or leave the runtime out"
            )
