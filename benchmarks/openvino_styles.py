"""The QDQ graphs that simqnas writes beside what OpenVINO's own NNCF makes of the FP32 model.

    PYTHONPATH=DIR python benchmarks/openvino_styles.py FOLDER [--only NAME ...]

DIR is where `pip install --target DIR nncf openvino` put them, FOLDER where `portability.py write`
put the models. Latency of one inference on one thread, all models of a network in turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
INPUTS = {"MiniLM": (1, 16), "ViT-B_16": (1, 3, 224, 224), "small ViT": (1, 3, 32, 32)}
"""Shapes of one sample."""
CALIBRATION = 8
"""Random samples, as few as ranges of random weights need."""


def samples(shape: tuple[int, ...], names: list[str]) -> Iterator[dict[str, Any]]:
    """Endless random inputs: images, or texts with nothing masked."""
    rng = np.random.default_rng(0)
    while True:
        if names == ["pixel_values"]:
            yield {"pixel_values": rng.standard_normal(shape, np.float32)}
        else:
            ids = rng.integers(0, 100, shape)
            known = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
            yield {name: known[name] for name in names}


def compare(folder: Path, network: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every inference, by model."""
    import nncf
    import openvino

    core, shape = openvino.Core(), INPUTS[network]

    def read(precision: str) -> Any:
        model = core.read_model(folder / f"{network}-{precision}.onnx")
        model.reshape({port.any_name: list(shape) for port in model.inputs})
        return model

    plain = read("fp32")
    feeds = samples(shape, [port.any_name for port in plain.inputs])
    batch = [next(feeds) for _ in range(CALIBRATION)]
    kind = nncf.ModelType.TRANSFORMER
    models = {"NNCF": nncf.quantize(read("fp32"), nncf.Dataset(batch), model_type=kind)}
    models |= {precision: read(precision) for precision in ("fp32", "int8-qdq")}
    compiled = {name: core.compile_model(model, "CPU", SETTINGS) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(repeats):
        for name, run in compiled.items():
            started = time.perf_counter()
            run(batch[0])
            times[name].append((time.perf_counter() - started) * 1e3)
    return times


def main() -> None:
    """Print a row for every network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(INPUTS), default=["MiniLM", "ViT-B_16"])
    parser.add_argument("--repeats", type=int, default=60)
    options = parser.parse_args()
    print("| network | FP32 ms | NNCF ms | QDQ ms | QDQ over NNCF, median of rounds |")
    print("|---|---|---|---|---|")
    for network in options.only:
        times = compare(options.folder, network, options.repeats)
        medians = [f"{np.median(times[name]):.2f}" for name in ("fp32", "NNCF", "int8-qdq")]
        ratio = np.median(np.array(times["int8-qdq"]) / times["NNCF"])
        print(f"| {network} | {' | '.join(medians)} | {ratio:.3f}x |", flush=True)


if __name__ == "__main__":
    main()
