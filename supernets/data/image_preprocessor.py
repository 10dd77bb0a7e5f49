"""From a picture to network inputs, as transformers' image processors do it.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from supernets.space.space import FULL, RESOLUTION, Architecture, size_in

IMAGE_PROCESSOR_FILE = "preprocessor_config.json"
NESTED_FILE = "processor_config.json"
"""Where transformers saves the image processor of a model that has several processors."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's name of a picture with so many channels."""

# Python and Pillow, not torchvision: it need not be installed, and its pixels differ a little.
BACKEND: dict[str, Any] = (
    {"backend": "pil"}
    if find_spec("transformers.image_processing_backends")
    else {"use_fast": False}  # transformers 4
)
SIZES = ("size", "crop_size", "pad_size")
GEOMETRY = ("do_resize", "do_center_crop", "do_pad")
ARITHMETIC = ("do_rescale", "do_normalize", "include_top")
"""The last is EfficientNet's, which divides by the deviation once more."""
LARGEST_VALUE = 1e4
"""Beyond what pictures give without any scaling, by far."""
LARGEST_SIDE = 4096
"""Pixels; a checkpoint that asks for more has a mistake in its sizes."""

PROBES = ((40, 60), (60, 40), (50, 50))
"""Sizes of the pictures a processor is tried on before it is used."""


@dataclass(frozen=True)
class ImagePreprocessor:
    """A transformers image processor in two steps: bytes of the final size, then their values.

    Bytes are a quarter of the memory, and what a byte becomes is looked up in `values`.
    """

    processor: Any
    image_size: int
    channels: int
    notes: tuple[str, ...] = ()

    @classmethod
    def plain(
        cls,
        image_size: int,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> ImagePreprocessor:
        """Stretch to a square, scale to 0..1, subtract the mean and divide by the deviation."""
        processor = _processor(
            "ViTImageProcessor",
            size={"height": image_size, "width": image_size},
            image_mean=list(mean),
            image_std=list(std),
        )
        return cls(processor, image_size, len(mean))

    def pixels(self, image: Image.Image) -> Tensor:
        """Turn an image into bytes `(C, H, W)` of the final size."""
        image = image.convert(MODES[self.channels])
        off = {name: False for name in ARITHMETIC if hasattr(self.processor, name)}
        given = self.processor(image, return_tensors="np", **off)
        return torch.from_numpy(np.ascontiguousarray(given["pixel_values"][0]))

    @cached_property
    def values(self) -> Tensor:
        """What each byte of each channel becomes `(C, 256)`, asked of the processor itself."""
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
        image = Image.fromarray(ramp).convert(MODES[self.channels])
        off = {name: False for name in GEOMETRY if hasattr(self.processor, name)}
        given = self.processor(image, return_tensors="np", **off)["pixel_values"][0]
        return torch.from_numpy(given.reshape(len(given), 256).astype(np.float32))

    def normalise(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn bytes into network inputs."""
        values = self.values.to(pixels_BCHW.device)
        channels = zip(values, pixels_BCHW.unbind(1), strict=True)
        # index_select is three times as fast as value[pixels].
        found = [v.index_select(0, p.flatten().int()).view(p.shape) for v, p in channels]
        return torch.stack(found, dim=1)

    @cached_property
    def shorter_side(self) -> int:
        """Pixels the shorter side is brought to where the longer one follows it, else 0."""
        size = self.processor.to_dict().get("size") or {}
        return int(dict(size).get("shortest_edge") or 0)

    def resized_to(self, image_size: int) -> ImagePreprocessor:
        """The same steps for another final size; what is cut off stays the same part."""
        if image_size == self.image_size:
            return self
        config = self.processor.to_dict()
        for name in SIZES:
            if config.get(name):
                sides = dict(config[name]).items()
                config[name] = {k: round(v * image_size / self.image_size) for k, v in sides}
        processor = type(self.processor).from_dict(config)
        return replace(self, processor=processor, image_size=image_size)

    def save(self, folder: Path, architecture: Architecture = FULL) -> None:
        """Write preprocessor_config.json as transformers reads it, at a sub-network's size."""
        size = size_in(architecture, RESOLUTION, self.image_size)
        processor = self.resized_to(size).processor
        known = {"image_processor_type", *_understood(processor)}
        config = json.loads(processor.to_json_string())
        text = json.dumps({k: v for k, v in config.items() if k in known}, indent=2)
        (folder / IMAGE_PROCESSOR_FILE).write_text(text + "\n", encoding="utf-8")


def open_processor(folder: Path) -> Any:
    """The image processor that a folder's files describe, as transformers has it."""
    from transformers import AutoImageProcessor  # takes a second, for which no text need wait

    # False, not the default: that asks at the terminal whether to run the checkpoint's code.
    return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, **BACKEND)


def read_preprocessor(folder: Path, image_size: int | None, channels: int = 3) -> ImagePreprocessor:
    """Take a checkpoint's image preprocessing over, at another size if given.

    channels: of the network's input. Raises ValueError for a preprocessing that transformers cannot
    do, or that does not give the network's input.
    """
    file, config = _read(folder)
    if channels not in MODES:
        raise ValueError(
            f"model.checkpoint: the network reads images of {channels} channels; image files give "
            "1 (grey) or 3 (colour)"
        )
    _refuse_mistyped(config, channels, file)
    try:
        processor = open_processor(folder)
    except Exception as error:  # transformers raises any class for fields it does not expect
        raise ValueError(
            f"model.checkpoint: {file}: {_first_line(error)} Name one of transformers' own classes "
            "as image_processor_type; code that comes with a checkpoint is never run"
        ) from error
    notes = _unknown_fields(processor, config, file)
    found = ImagePreprocessor(processor, 0, channels, notes)
    found = replace(found, image_size=_final_size(found, file))
    if image_size not in (None, found.image_size):
        found = found.resized_to(image_size)
        if _final_size(found, file) != image_size:
            raise ValueError(
                f"data.image_size: {image_size}, but {file} gives {_final_size(found, file)} "
                "pixels whatever size is asked for; leave image_size out"
            )
    return found


def _processor(kind: str, **config: Any) -> Any:
    """One of transformers' image processors, without torchvision."""
    import transformers

    found = getattr(transformers, kind + "Pil", None) or getattr(transformers, kind)
    return found(**config)


def _read(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """The file that describes a checkpoint's image processor, and what it says."""
    file = folder / IMAGE_PROCESSOR_FILE
    nested = not file.is_file() and (folder / NESTED_FILE).is_file()
    file = folder / NESTED_FILE if nested else file
    if not file.is_file():
        raise ValueError(
            f"model.checkpoint: {folder} has no {IMAGE_PROCESSOR_FILE}; add the one the model was "
            "trained with (mean, deviation, size)"
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"model.checkpoint: {file} is no readable JSON ({error})") from error
    config = config.get("image_processor") if nested and isinstance(config, dict) else config
    if not isinstance(config, dict):
        raise ValueError(f"model.checkpoint: {file} must describe an image processor")
    return file, config


def _refuse_mistyped(config: Mapping[str, Any], channels: int, file: Path) -> None:
    """Raise ValueError for fields that transformers would take for something else, or leave out."""
    for name, value in config.items():
        if name.startswith("do_") and not isinstance(value, bool | None):
            raise ValueError(f"model.checkpoint: {file}: {name} is {value!r}; give true or false")
    resample = config.get("resample")
    if isinstance(resample, bool) or not isinstance(resample, int | None):
        raise ValueError(
            f"model.checkpoint: {file}: resample is {resample!r}; give Pillow's number of the "
            "filter: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box, 5 hamming"
        )
    for name in ("image_mean", "image_std") if config.get("do_normalize", True) else ():
        value = config.get(name)
        if isinstance(value, list) and len(value) != channels:
            raise ValueError(
                f"model.checkpoint: {file}: {name} is {value}, but the network reads {channels} "
                f"channel(s); give as many values, or one number for all"
            )


def _understood(processor: Any) -> set[str]:
    """Fields that a processor acts upon."""
    kwargs = getattr(getattr(processor, "valid_kwargs", None), "__annotations__", {})
    arguments = inspect.signature(processor.preprocess).parameters
    named = (*kwargs, *arguments, *inspect.signature(type(processor)).parameters)
    return {name for name in named if hasattr(processor, name)} - {"auto_map"}


def _unknown_fields(processor: Any, config: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """Notes on fields that the processor does not know. Raises ValueError for an unknown step."""
    known, kind = _understood(processor), type(processor).__name__
    own = {"image_processor_type", "feature_extractor_type", "processor_class", "auto_map"}
    unknown = {k: v for k, v in config.items() if k not in known | own and not k.startswith("_")}
    for name, value in unknown.items():
        if name.startswith("do_") and value:
            raise ValueError(
                f"model.checkpoint: {file} asks for {name}: {value}, which {kind} does not do; "
                "remove it if the model was trained without, or name another image_processor_type"
            )
    if not unknown:
        return ()
    fields = ", ".join(f"{name}: {value}" for name, value in unknown.items())
    return (f"images: {kind} does not know {fields} of {file.name}; left aside",)


def _final_size(preprocessor: ImagePreprocessor, file: Path) -> int:
    """Side of the squares that come out, whatever the picture's size.

    Raises ValueError if they are none, or if the two steps do not give what the processor gives.
    """
    shapes, processor = set(), preprocessor.processor
    largest = max((v for sides in _sides(processor) for v in sides.values()), default=0)
    if largest > LARGEST_SIDE:
        raise ValueError(
            f"model.checkpoint: {file} asks for images of {largest:,} pixels a side; at most "
            f"{LARGEST_SIDE:,} are prepared"
        )
    for number, (width, height) in enumerate(PROBES):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(noise).convert(MODES[preprocessor.channels])
        try:
            bytes_CHW = preprocessor.pixels(image)
            expected = processor(image, return_tensors="np")["pixel_values"][0]
            given = preprocessor.normalise(bytes_CHW[None])[0].numpy()
        except Exception as error:  # any class, from Pillow or NumPy, for values they cannot use
            raise ValueError(
                f"model.checkpoint: {type(processor).__name__} cannot prepare an image of "
                f"{preprocessor.channels} channel(s), which the network reads, as {file} says "
                f"({_first_line(error)})"
            ) from error
        shapes.add(tuple(bytes_CHW.shape))
        if not np.isfinite(given).all():
            raise ValueError(f"model.checkpoint: {file} gives values that are not finite")
        if (
            not np.ptp(preprocessor.values.numpy(), axis=1).all()
            or abs(given).max() > LARGEST_VALUE
        ):
            raise ValueError(
                f"model.checkpoint: {file} makes values of {given.min():.3g} to {given.max():.3g} "
                "of a picture, of which no network learns; look at rescale_factor and image_std"
            )
        if not np.array_equal(given, expected):
            raise ValueError(
                f"model.checkpoint: {file}: of {type(processor).__name__}'s steps only resizing, "
                "cutting, scaling and normalising work here; it is asked for "
                + ", ".join(k for k, v in processor.to_dict().items() if k.startswith("do_") and v)
            )
    sides = {side for shape in shapes for side in shape[1:]}
    if len(sides) != 1 or {shape[0] for shape in shapes} != {preprocessor.channels}:
        made = " and ".join(sorted(" x ".join(map(str, shape)) for shape in shapes))
        config = processor.to_dict()
        asked = {name: config[name] for name in (*GEOMETRY[:2], *SIZES[:2]) if name in config}
        raise ValueError(
            f"model.checkpoint: {file} with {asked} gives images of {made}; the network reads "
            f"squares of one size with {preprocessor.channels} channel(s)"
        )
    return int(sides.pop())


def _sides(processor: Any) -> Iterator[dict[str, float]]:
    """What each field of sizes says, as far as it is numbers."""
    config = processor.to_dict()
    for name in SIZES:
        sides = config.get(name)
        if isinstance(sides, Mapping):
            yield {k: v for k, v in sides.items() if isinstance(v, int | float)}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {textwrap.shorten(lines[0], 200)}"
