from __future__ import annotations

from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.formats.registry import ordered
from hardware.formats.scheme import QuantScheme
from hardware.graph.static_activations import Ranges
from hardware.graph.template import within
from hardware.writing import size
from hardware.writing.materialize import materialize
from hardware.writing.size import SizeModel
from tests.sample_networks import random_policy, random_vit, vit


class AnyRange(Ranges):
    def __getitem__(self, value: str) -> tuple[float, float]:
        return (-1.0, 2.0)


@pytest.mark.parametrize(
    "scheme",
    [
        QuantScheme(),
        QuantScheme(group_size=64),
        QuantScheme(group_size=None),
        QuantScheme(linear="static"),
        QuantScheme(linear="qdq"),
        QuantScheme(int4_kernel="matmulnbits"),
        QuantScheme(int4_kernel="matmulnbits", linear="static"),
    ],
)
def test_predicted_bytes_equal_the_written_ones(scheme: QuantScheme) -> None:
    network, template = vit()
    names = [layer.name for layer in network.layers]
    rng = np.random.default_rng(0)
    table, written = [], []
    for _ in range(12):
        _, weights = random_vit(rng)
        policy = random_policy(
            template, weights, rng, ("fp32", "fp16", "int8", "int4", "int3", "int2")
        )
        model = materialize(template, weights, policy, scheme, AnyRange({}))
        written.append(len(model.SerializeToString()))
        table.append(
            [
                (*weights[f"{name}.weight"].shape, ordered().index(policy[name]))
                if name in policy
                else (0,) * 3
                for name in names
            ]
        )
    out, inputs, formats = np.moveaxis(np.array(table), -1, 0)
    predicted = SizeModel(template, scheme).file_bytes(names, out, inputs, formats)
    assert np.array_equal(predicted, written)


def test_a_graph_is_weighed_once_for_all_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    network, template = vit()
    sizes = SizeModel(template, QuantScheme())
    names = [layer.name for layer in network.layers]
    out, inputs = (np.array([[layer.shape[i] for layer in network.layers]] * 2) for i in (0, 1))

    def counted(formats: int) -> NDArray[np.int64]:
        return sizes.file_bytes(names, out, inputs, np.full_like(out, formats))

    first = counted(0)
    for name in ("assemble", "_node_bytes"):
        monkeypatch.setattr(size, name, None)
    assert np.array_equal(counted(0), first)
    assert not np.array_equal(counted(1), first)


def test_few_graphs_are_kept_however_many_blocks_can_be_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(size, "GRAPHS_KEPT", 2)
    network, template = vit()
    names = [layer.name for layer in network.layers]
    paths = list(template.bypasses)
    drops = [[path for path in paths if number >> paths.index(path) & 1] for number in range(8)]
    present = [[not any(within(name, path) for path in gone) for name in names] for gone in drops]
    shapes = np.array([layer.shape[:2] for layer in network.layers])
    out, inputs = (np.where(present, shapes[:, side], 0) for side in (0, 1))
    formats = np.zeros_like(out)
    alive: WeakSet[object] = WeakSet()
    made = size._Shortened

    def watched(*given: Any) -> object:
        alive.add(graph := made(*given))
        return graph

    monkeypatch.setattr(size, "_Shortened", watched)
    sizes = SizeModel(template, QuantScheme())
    whole = sizes.file_bytes(names, out, inputs, formats)
    assert len(alive) <= 3  # and the one that was counted last
    one = (slice(i, i + 1) for i in range(8))
    alone = [sizes.file_bytes(names, out[i], inputs[i], formats[i]) for i in one]
    assert np.array_equal(whole, np.concatenate(alone))
    assert len(set(whole.tolist())) == 8
