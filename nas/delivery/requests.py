"""Whole requests, timed: from a text, or the bytes of a picture, to the model's outputs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tokenizers import Tokenizer

from hardware.latency import Rounds, time_in_turn
from hardware.run_watch import RunWatch
from hardware.session import Arrays, open_session
from hardware.target import Target
from nas.delivery.model_card import is_plainly_resized
from nas.run.run_folder import read_json
from supernets.data.account import SplitSource, TextAboutImages
from supernets.data.image_preprocessor import IMAGE_PROCESSOR_FILE, MODES, open_processor
from supernets.pretrained.config_json import size_of
from supernets.tasks.task import Task

LOOKED_AT = 200
"""Samples among which those of median length are looked for."""
REQUEST_REPEATS = 30
TOKENIZER_FILE = "tokenizer.json"
COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}

Prepare = Callable[[Sequence[Any]], dict[str, NDArray[Any]]]
"""From samples as they arrive to the inputs of a model."""


@dataclass(frozen=True)
class Requests:
    """Requests of some samples each; models answer them as their README.md shows.

    samples: of one request, `(B,)`, see `SplitSource.sample`.
    """

    samples: Sequence[Any]
    target: Target

    @classmethod
    def of(cls, source: SplitSource, task: Task, target: Target) -> Requests:
        """Samples of about median length: all runs have to do the same work."""
        rows = range(min(len(source.labels), LOOKED_AT))
        found = sorted((_asked(source.sample(row), task) for row in rows), key=_length)
        first = max(0, (len(found) - target.batch_size) // 2)
        places = range(first, first + target.batch_size)
        return cls([found[place % len(found)] for place in places], target)

    def timed(self, models: Mapping[str, Path], shapes: Mapping[str, Arrays]) -> Rounds | None:
        """Whole requests to the models in these folders, in turn; None where there is no client
        that would open a model's preprocessor.

        shapes: inputs of each model as it is timed alone; texts are cut or padded to their length.
        """
        if not all(map(_is_served, models.values())):
            return None
        sessions = {n: open_session(f / "model.onnx", self.target) for n, f in models.items()}

        def request(name: str) -> Callable[[], object]:
            prepare, run = preparation(models[name], shapes[name]), sessions[name].run
            return lambda: run(None, prepare(self.samples))

        runs = {name: request(name) for name in models}
        with RunWatch.of(sessions.values()) as watch:
            return time_in_turn(runs, REQUEST_REPEATS, watch)


def _asked(sample: Any, task: Task) -> Any:
    """What one request holds: embedders are asked about one text of a pair."""
    return sample[0] if isinstance(sample, tuple) and task.taught_alone else sample


def _length(sample: Any) -> int:
    """Pixels of a picture, bytes of a file, letters of a text or of all its parts."""
    if isinstance(sample, Image.Image):
        return sample.width * sample.height
    if isinstance(sample, TextAboutImages):
        return len(sample.text)
    return len(sample) if isinstance(sample, str | bytes) else sum(map(len, sample))


def _is_served(folder: Path) -> bool:
    return (folder / TOKENIZER_FILE).exists() or (folder / IMAGE_PROCESSOR_FILE).exists()


def preparation(folder: Path, shape: Arrays) -> Prepare:
    """What makes a model's inputs, by the files of its folder, in the shape of these."""
    if "input_ids" not in shape:
        return _of_images(folder)
    if "pixel_values" in shape:
        return _of_both(folder, shape)
    return _of_texts(folder, shape)


def _of_both(folder: Path, shape: Arrays) -> Prepare:
    images, texts = _of_images(folder), {n: a for n, a in shape.items() if n != "pixel_values"}
    encode = _of_texts(folder, texts)
    several = shape["pixel_values"].shape[:-3]

    def prepare(samples: Sequence[Any]) -> dict[str, NDArray[Any]]:
        pixels = images([image for sample in samples for image in sample.images])["pixel_values"]
        pixels = pixels.reshape(-1, *several[1:], *pixels.shape[1:])
        return {"pixel_values": pixels, **encode([sample.text for sample in samples])}

    return prepare


def _of_texts(folder: Path, shape: Arrays) -> Prepare:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    length = shape["input_ids"].shape[1]
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)

    def encode(sample: Any) -> Any:
        first, second = sample if isinstance(sample, tuple) else (sample, None)
        return tokenizer.encode(first, second, is_pretokenized=isinstance(sample, list))

    def prepare(samples: Sequence[Any]) -> dict[str, NDArray[Any]]:
        found = list(map(encode, samples))
        return {
            name: np.array([getattr(text, COLUMNS[name]) for text in found], np.int64)
            for name in shape
        }

    return prepare


def _of_images(folder: Path) -> Prepare:
    config = read_json(folder / IMAGE_PROCESSOR_FILE)
    mode = MODES[size_of(read_json(folder / "config.json"), "channels")]

    def opened(sample: Any) -> Image.Image:
        image = sample if isinstance(sample, Image.Image) else Image.open(io.BytesIO(sample))
        return ImageOps.exif_transpose(image).convert(mode)

    if not is_plainly_resized(config):
        processor = open_processor(folder)

        def processed(samples: Sequence[Any]) -> dict[str, NDArray[Any]]:
            images = list(map(opened, samples))
            pixels = processor(images, return_tensors="np")["pixel_values"]
            return {"pixel_values": pixels.astype(np.float32)}

        return processed
    size, filter_ = (config["size"]["width"], config["size"]["height"]), config["resample"]
    factor = config["rescale_factor"] if config["do_rescale"] else 1.0
    mean, deviation = (
        np.float32(config[name] if config["do_normalize"] else plain)
        for name, plain in (("image_mean", 0.0), ("image_std", 1.0))
    )

    def resized(samples: Sequence[Any]) -> dict[str, NDArray[Any]]:
        images = [np.asarray(opened(sample).resize(size, filter_)) for sample in samples]
        pixels = (np.stack([np.atleast_3d(i) for i in images]) * factor).astype(np.float32)
        return {"pixel_values": ((pixels - mean) / deviation).transpose(0, 3, 1, 2)}

    return resized
