"""What ways of splitting attention's heads cost beside one `Attention` operator of opset 23.

    python benchmarks/attention_forms.py [--sizes 96,6,65 384,12,16] [--rounds N] [--blocks N]

Pre-norm transformer blocks of random weights; sizes are width, heads and tokens. One thread, one
sample, processor time in turns; a ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hardware.session import Arrays, open_session
from hardware.target import Target

Sizes = tuple[int, int, int]
"""Width, heads, tokens."""
ALLOWED = {"FP32": 1e-3, "INT8": 0.3}
"""Largest difference of outputs from the operator's, whose own are of unit size."""


class Blocks:
    """Transformer blocks under construction. Projections are INT8 products of a dynamic kind."""

    def __init__(self, width: int, heads: int, int8: bool):
        self.width, self.heads, self.int8 = width, heads, int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        self._rng = np.random.default_rng(0)
        self._codes: dict[str, tuple[str, str, str]] = {}

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """Append a node; the names of what it computes."""
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, [*inputs], names, **attributes))
        return names

    def one(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output."""
        return self.add(kind, *inputs, **attributes)[0]

    def constant(self, value: object, kind: type[np.generic] = np.float32) -> str:
        """The name of a constant; equal ones are one."""
        array = np.asarray(value, kind)
        for name, known in self.constants.items():
            if known.dtype == array.dtype and np.array_equal(known, array):
                return name
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def projection(self, x: str, outputs: int, inputs: int | None = None, parts: int = 1) -> str:
        """A linear layer with its bias; of several of the same inputs in one product."""
        inputs = inputs or self.width
        drawn = [self._drawn(inputs, outputs) for _ in range(parts)]
        weight = np.concatenate([weight for weight, _ in drawn], 1)
        bias = self.constant(np.concatenate([bias for _, bias in drawn]))
        if not self.int8:
            return self.one("Add", self.one("MatMul", x, self.constant(weight)), bias)
        if x not in self._codes:
            codes, scale, zero = self.add("DynamicQuantizeLinear", x, outputs=3)
            self._codes[x] = (codes, scale, zero)
        codes, scale, zero = self._codes[x]
        scales = np.abs(weight).max(0) / 127
        rounded = self.constant(np.rint(weight / scales), np.int8)
        product = self.one("Cast", self.one("MatMulInteger", codes, rounded, zero), to=1)
        steps = self.one("Mul", scale, self.constant(scales))
        return self.one("Add", self.one("Mul", product, steps), bias)

    def _drawn(self, inputs: int, outputs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight = self._rng.standard_normal((inputs, outputs)) / inputs**0.5
        return weight, self._rng.standard_normal(outputs) * 0.1

    def norm(self, x: str) -> str:
        """Layer normalization."""
        ones, zeros = np.ones(self.width), np.zeros(self.width)
        return self.one("LayerNormalization", x, self.constant(ones), self.constant(zeros))

    def weighed(self, q: str, k: str, v: str) -> str:
        """Values by the softmax of products; q, v: (..., tokens, head), k: (..., head, tokens)."""
        scale = self.constant((self.width // self.heads) ** -0.5)
        scores = self.one("Mul", self.one("MatMul", q, k), scale)
        return self.one("MatMul", self.one("Softmax", scores), v)

    def split(self, x: str, perm: Sequence[int]) -> str:
        """Heads apart and turned."""
        return self.one("Transpose", self.split_only(x), perm=perm)

    def split_only(self, x: str) -> str:
        """Heads apart."""
        head = self.width // self.heads
        return self.one("Reshape", x, self.constant([0, 0, -1, head], np.int64))

    def joined(self, x: str, perm: Sequence[int]) -> str:
        """Heads together again, samples first."""
        shape = self.constant([0, 0, -1], np.int64)
        return self.one("Reshape", self.one("Transpose", x, perm=perm), shape)


def operator(b: Blocks, x: str) -> str:
    """Three products and the operator."""
    q, k, v = (b.projection(x, b.width) for _ in "qkv")
    return b.one("Attention", q, k, v, q_num_heads=b.heads, kv_num_heads=b.heads)


def each_turned(b: Blocks, x: str) -> str:
    """Query, key and value turned to heads one by one."""
    q, k, v = (b.projection(x, b.width) for _ in "qkv")
    turned = (b.split(name, perm) for name, perm in zip((q, k, v), SAMPLES_FIRST, strict=True))
    return b.joined(b.weighed(*turned), (0, 2, 1, 3))


def turned_once(b: Blocks, x: str) -> str:
    """What they read is turned to tokens first, before the projections: the form written."""
    turned = b.one("Transpose", x, perm=(1, 0, 2))
    q, k, v = (b.projection(turned, b.width) for _ in "qkv")
    heads = (b.split(name, perm) for name, perm in zip((q, k, v), TOKENS_FIRST, strict=True))
    return b.joined(b.weighed(*heads), (0, 2, 1, 3))


def one_product(b: Blocks, x: str) -> str:
    """One projection thrice as wide, and a Split of its heads."""
    heads = b.split_only(b.projection(x, b.width, parts=3))
    apart = b.add("Split", heads, outputs=3, axis=2, num_outputs=3)
    turned = [
        b.one("Transpose", name, perm=perm) for name, perm in zip(apart, SAMPLES_FIRST, strict=True)
    ]
    return b.joined(b.weighed(*turned), (0, 2, 1, 3))


def one_product_and_operator(b: Blocks, x: str) -> str:
    """One projection thrice as wide, a Split and the operator."""
    apart = b.add("Split", b.projection(x, b.width, parts=3), outputs=3, axis=2, num_outputs=3)
    return b.one("Attention", *apart, q_num_heads=b.heads, kv_num_heads=b.heads)


SAMPLES_FIRST = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
TOKENS_FIRST = ((1, 2, 0, 3), (1, 2, 3, 0), (1, 2, 0, 3))
"""Of query, key and value: from (samples, tokens, ...) and (tokens, samples, ...) to heads."""
FORMS: dict[str, Callable[[Blocks, str], str]] = {
    "operator": operator,
    "each turned": each_turned,
    "turned once": turned_once,
    "one product and a Split": one_product,
    "one product, a Split and the operator": one_product_and_operator,
}


def model(form: str, sizes: Sizes, blocks: int, int8: bool) -> bytes:
    """A graph from x `(samples, tokens, width)` to y of the same shape."""
    width, heads, _ = sizes
    b, x = Blocks(width, heads, int8), "x"
    for _ in range(blocks):
        x = b.one("Add", x, b.projection(FORMS[form](b, b.norm(x)), width))
        hidden = b.projection(b.norm(x), 4 * width)
        erf = b.one("Erf", b.one("Div", hidden, b.constant(2**0.5)))
        active = b.one("Mul", hidden, b.one("Add", erf, b.constant(1.0)))
        active = b.one("Mul", active, b.constant(0.5))
        x = b.one("Add", x, b.projection(active, width, 4 * width))
    b.nodes.append(helper.make_node("Identity", [x], ["y"]))
    shape: Sequence[str | int | None] = ["samples", "tokens", width]
    graph = helper.make_graph(
        b.nodes,
        "blocks",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in b.constants.items()],
    )
    opset = 23 if form.endswith("operator") else 18
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    written: bytes = made.SerializeToString()
    return written


def ratios(sizes: Sizes, blocks: int, rounds: int, int8: bool) -> dict[str, float]:
    """Form -> median of its processor time over the operator's, of rounds in turn."""
    sessions = {name: open_session(model(name, sizes, blocks, int8), Target()) for name in FORMS}
    x = np.random.default_rng(1).standard_normal((1, sizes[2], sizes[0])).astype(np.float32)
    inputs: Arrays = {"x": x}
    reference = sessions["operator"].run(None, inputs)[0]
    for name, session in sessions.items():
        difference = float(np.abs(session.run(None, inputs)[0] - reference).max())
        if difference > ALLOWED["INT8" if int8 else "FP32"]:
            raise AssertionError(f"{name}: {difference} from the operator")
    taken: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(rounds):
        for name, session in sessions.items():
            started = time.thread_time()
            session.run(None, inputs)
            taken[name].append(time.thread_time() - started)
    base = np.array(taken["operator"])
    return {name: float(np.median(np.array(times) / base)) for name, times in taken.items()}


def main() -> None:
    """Print a table, FP32 and INT8 of every form and size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["96,6,65", "384,12,16", "384,6,197"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=4)
    given = parser.parse_args()
    cells: dict[str, list[str]] = {name: [] for name in FORMS}
    for text in given.sizes:
        width, heads, tokens = map(int, text.split(","))
        plain, integers = (
            ratios((width, heads, tokens), given.blocks, given.rounds, int8)
            for int8 in (False, True)
        )
        for name, row in cells.items():
            row.append(f"{plain[name]:.3f}, {integers[name]:.3f}")
    print(f"| query, key, value | {' | '.join(given.sizes)} |")
    print("|---" * (1 + len(given.sizes)) + "|")
    for name, row in cells.items():
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
