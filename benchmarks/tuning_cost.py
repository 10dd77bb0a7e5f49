"""What one InstaTune epoch costs beside a plain epoch of the same network.

Steps of both kinds are timed alternately, so that whatever else the machine does meets both.

    python benchmarks/tuning_cost.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from supernets.data import TaskData
from supernets.load import load_data, load_supernet
from supernets.settings import (
    BertConfig,
    DataSettings,
    ModelSettings,
    ResNetConfig,
    SpaceSettings,
    TuneSettings,
    VitConfig,
)
from supernets.train import Trainer
from supernets.tune import InstaTuner

STEPS = 30
WARMUP = 3
LIMIT = 2.3
MODELS = {
    "ViT 6 x 96, digits": ("digits", ModelSettings(vit=VitConfig())),
    "BERT 4 x 128, pydoc": ("pydoc", ModelSettings(bert=BertConfig())),
    "ResNet 3 x 2 blocks, digits": ("digits", ModelSettings(resnet=ResNetConfig())),
}


def timed(step: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def step_seconds(data: TaskData, model: ModelSettings, tune: TuneSettings) -> tuple[float, float]:
    """Median seconds of a plain and of an InstaTune step, timed in turns."""
    plain_network, elastic_network = (load_supernet(model, data, seed=0).network for _ in range(2))
    space = elastic_network.space(SpaceSettings())
    plain = Trainer(plain_network, data.train, tune, seed=0)
    tuner = InstaTuner(elastic_network, space, data.train, tune, seed=0)
    pairs = [(timed(plain.step), timed(tuner.step)) for _ in range(WARMUP + STEPS)][WARMUP:]
    return statistics.median(p for p, _ in pairs), statistics.median(t for _, t in pairs)


def main() -> None:
    """Print a table; fail if a ratio without quantization exceeds the limit."""
    print("| network | plain step | InstaTune step | ratio | ratio, quantization-aware |")
    print("|---|---|---|---|---|")
    ratios = []
    for title, (name, model) in MODELS.items():
        data = load_data(DataSettings(name=name), model)
        settings = TuneSettings(batch_size=32, epochs=1)
        plain, tuned = step_seconds(data, model, settings)
        aware = settings.model_copy(update={"quantization_aware": True})
        plain_again, tuned_aware = step_seconds(data, model, aware)
        ratios.append(tuned / plain)
        print(
            f"| {title} | {plain * 1e3:.1f} ms | {tuned * 1e3:.1f} ms | {ratios[-1]:.2f} "
            f"| {tuned_aware / plain_again:.2f} |"
        )
    if max(ratios) > LIMIT:
        raise SystemExit(f"an InstaTune epoch costs {max(ratios):.2f} plain ones, over {LIMIT}")


if __name__ == "__main__":
    main()
