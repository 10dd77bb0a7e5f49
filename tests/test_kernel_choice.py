import itertools

import numpy as np
import pytest

from hardware import doctor
from hardware.kernel_choice import choose_int4_kernel
from hardware.precision import QuantScheme
from hardware.target import Target

LAYER = doctor.Probe("linear", (1, 3, 64), (32, 64))


def clock(durations: tuple[float, float]) -> "itertools.accumulate[float]":
    """Two sessions measured in turn: the first takes durations[0], the second durations[1]."""
    steps = itertools.cycle([0.0, durations[0], 0.0, durations[1]])
    return itertools.accumulate(steps)


@pytest.mark.parametrize(
    ("durations", "expected"), [((1.0, 2.0), "w4a8"), ((2.0, 1.0), "matmulnbits")]
)
def test_the_faster_kernel_is_taken_and_remembered(tmp_path, durations, expected):
    template, weights = doctor.one_layer(LAYER, np.random.default_rng(0))
    cache = tmp_path / "kernels.json"
    ticks = clock(durations)
    arguments = (template, weights, QuantScheme(), Target())
    rng = np.random.default_rng(0)
    choice = choose_int4_kernel(*arguments, cache=cache, rng=rng, clock=lambda: next(ticks))
    assert choice.kernel == expected

    def forbidden() -> float:
        raise AssertionError("a remembered choice is not measured again")

    again = choose_int4_kernel(*arguments, cache=cache, rng=rng, clock=forbidden)
    assert again == choice
    with pytest.raises(AssertionError, match="not measured again"):
        choose_int4_kernel(
            template, weights, QuantScheme(), Target(threads=2), cache=cache, rng=rng,
            clock=forbidden,
        )  # fmt: skip


def test_cuda_has_one_int4_kernel():
    template, weights = doctor.one_layer(LAYER, np.random.default_rng(0))
    choice = choose_int4_kernel(
        template, weights, QuantScheme(), Target("cuda"), rng=np.random.default_rng(0)
    )
    assert choice.kernel == "matmulnbits"
