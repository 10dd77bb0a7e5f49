from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.formats.registry import ordered
from hardware.formats.scheme import QuantScheme
from hardware.graph.static_activations import Ranges
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
