"""Checkpoints as people have them, odd ones included: what is changed, drawn by hypothesis."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.vocabulary.tokenizer import train_tokenizer
from tests.family_models import MODELS, config_of, make

Draw = Callable[..., Any]
Change = Callable[[Draw, Path], None]

WEIGHTS, CONFIG, PREPARATION = "model.safetensors", "config.json", "preprocessor_config.json"
ODD_VALUES = st.one_of(
    st.sampled_from([None, True, False, -1, 0, 1, 3, 1.5, 10**9, 10**30, math.nan, -0.5]),
    st.sampled_from(["", "16", "gelu_new", "relu", [], [16], [16, 16], ["a"], {}, {"height": 16}]),
)
TYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool)
SMALL_TYPES = (torch.float8_e4m3fn, torch.complex64, torch.uint8)


def save(name: str, folder: Path) -> None:
    """A tiny checkpoint of one of the models, with what prepares its inputs."""
    make(name).save_pretrained(folder)
    config = config_of(name)
    if "pixel_values" in config.inputs:
        sizes: Any = config
        ImagePreprocessor.plain(sizes.image_size).save(folder)
    else:
        train_tokenizer(["a b c d e f"], 50, config.inputs).save_pretrained(folder)


def _field(file: str) -> Change:
    def change(draw: Draw, folder: Path) -> None:
        """Remove, retype or scale a field."""
        path = folder / file
        data = json.loads(path.read_text())
        key = draw(st.sampled_from(sorted(data)))
        action = draw(st.sampled_from(["remove", "replace", "scale", "add"]))
        if action == "remove":
            del data[key]
        elif action == "scale":
            data[key] = _scaled(data[key], draw(st.sampled_from([2, 0.5, 10, 1000, -1])))
        else:
            unknown = draw(st.sampled_from(UNKNOWN_FIELDS))
            data[key if action == "replace" else unknown] = draw(ODD_VALUES)
        path.write_text(json.dumps(data))

    return change


UNKNOWN_FIELDS = (
    *("problem_type", "torch_dtype", "pruned_heads", "quantization_config", "pooler_type"),
    *("do_pad", "crop_pct", "crop_size", "size_divisor", "do_reduce_labels", "image_size"),
    *("rescale_factor", "resample", "architectures", "id2label", "label2id", "num_labels"),
)


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | list | dict):
        return value
    if isinstance(value, list):
        return [_scaled(entry, factor) for entry in value]
    if isinstance(value, dict):
        return {key: _scaled(entry, factor) for key, entry in value.items()}
    return type(value)(value * factor)


def _tensors(draw: Draw, folder: Path) -> None:
    """Change one tensor, its name or its place."""
    tensors = load_file(folder / WEIGHTS)
    name = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    action = draw(st.sampled_from(sorted(TENSOR_CHANGES)))
    tensors |= TENSOR_CHANGES[action](draw, name, tensor)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / WEIGHTS)


def _other_shape(draw: Draw, name: str, tensor: Tensor) -> dict[str, Tensor]:
    shapes = {
        "one more axis": lambda: tensor[None],
        "flat": lambda: tensor.flatten(),
        "turned": lambda: tensor.mT if tensor.ndim > 1 else tensor,
        "cut": lambda: (tensor if tensor.ndim else tensor[None])[:-1],
        "empty": lambda: (tensor if tensor.ndim else tensor[None])[:0],
        "a number": lambda: tensor.flatten()[0],
        "twice": lambda: torch.cat([tensor, tensor]) if tensor.ndim else tensor,
    }
    return {name: shapes[draw(st.sampled_from(sorted(shapes)))]().clone()}


def _other_name(draw: Draw, name: str, tensor: Tensor) -> dict[str, Tensor]:
    names = (
        *(name + "_packed", "module." + name, name.replace(".0.", ".7."), "head.x.weight"),
        *(name.replace("weight", "gamma").replace("bias", "beta"), name.replace(".", "")),
    )
    return {draw(st.sampled_from(names)): tensor}


def _beside(draw: Draw, name: str, tensor: Tensor) -> dict[str, Tensor]:
    names = ("pooler.dense.weight", "classifier.weight", "x", "cls.bias", "module." + name)
    return {name: tensor, draw(st.sampled_from(names)): tensor.clone()}


TENSOR_CHANGES: dict[str, Callable[[Draw, str, Tensor], dict[str, Tensor]]] = {
    "missing": lambda draw, name, tensor: {},
    "not finite": lambda draw, name, tensor: {name: tensor.float() / 0},
    "type": lambda draw, name, tensor: {
        name: tensor.to(draw(st.sampled_from((*TYPES, *SMALL_TYPES))))
    },
    "shape": _other_shape,
    "name": _other_name,
    "beside": _beside,
}


def _all_tensors(draw: Draw, folder: Path) -> None:
    """Write all tensors otherwise: another type, another prefix, parts of one file."""
    tensors = load_file(folder / WEIGHTS)
    action = draw(st.sampled_from(["type", "prefix", "parts"]))
    if action == "type":
        kind = draw(st.sampled_from(TYPES[:3]))
        tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in tensors.items()}
    elif action == "prefix":
        before = draw(st.sampled_from(["module.", "model.", "encoder.", "student."]))
        tensors = {before + name: tensor for name, tensor in tensors.items()}
    else:
        _in_parts(draw, folder, tensors)
        return
    save_file(tensors, folder / WEIGHTS)


def _in_parts(draw: Draw, folder: Path, tensors: dict[str, Tensor]) -> None:
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    whole = {name: file for file, held in parts.items() for name in held}
    odd = draw(st.sampled_from([None, None, [], {}, {"x": 1}, {"x": "c.safetensors"}, "text"]))
    index = {"weight_map": whole if odd is None else odd}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def _bytes(draw: Draw, folder: Path) -> None:
    """Damage a file, or remove it."""
    path = draw(st.sampled_from(sorted(p for p in folder.iterdir() if p.is_file())))
    content = path.read_bytes()
    place = draw(st.integers(0, len(content)))
    damaged = {
        "cut": content[:place],
        "written over": content[:place] + draw(st.binary(max_size=3)) + content[place + 1 :],
        "other": draw(st.sampled_from([b"", b"[]", b"null", b"{}", b"\xff\xfe", b"1", b"{" * 999])),
    }
    kind = draw(st.sampled_from([*damaged, "removed"]))
    if kind == "removed":
        path.unlink()
    else:
        path.write_bytes(damaged[kind])


CHANGES: tuple[Change, ...] = (_field(CONFIG), _tensors, _all_tensors, _bytes)
IMAGE_CHANGES: tuple[Change, ...] = (_field(PREPARATION), _field(CONFIG), _bytes)
NAMES = sorted(MODELS)
