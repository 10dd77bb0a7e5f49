"""Random inputs for a model of any exporter: its types, and sizes for the axes it leaves open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hardware.target import Target

DEFAULT_SEQUENCE_LENGTH = 128
TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
TEXT = "a text"
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--batch": ("batch", "batch_size"),
    "--sequence": ("sequence", "sequence_length"),
    "--image-size": ("height", "width"),
}
"""Option of the command -> names in use for the axes that it sets."""


def parse_sizes(options: Iterable[str]) -> dict[str, int]:
    """`axis=size` options as a mapping. Raises ValueError for anything else."""
    sizes: dict[str, int] = {}
    for option in options:
        axis, _, size = option.rpartition("=")
        if not (axis and size.isascii() and size.isdigit()):
            raise ValueError(
                f"--size {option}: must be the name of an axis, =, and a whole number, such as "
                "sequence_length=128; an axis without a name is INPUT[NUMBER]"
            )
        if sizes.setdefault(axis, int(size)) != int(size):
            raise ValueError(f"--size {axis}: given as {sizes[axis]} and as {size}; give it once")
    return sizes


def refuse_unknown(
    sizes: Mapping[str, int], sessions: Iterable[onnxruntime.InferenceSession]
) -> None:
    """Raise ValueError for sizes of axes that no model leaves open."""
    inputs = [value for session in sessions for value in session.get_inputs()]
    open_axes = {name for value in inputs for name in _axes(value) if isinstance(name, str)}
    known = open_axes | {part for name in open_axes for part in _terms(name)}
    for axis in sizes:
        if axis not in known:
            has = ", ".join(sorted(open_axes)) or "none: every size is fixed"
            raise ValueError(
                f"--size {axis}: no input leaves an axis of this name open; open are {has}"
            )


def random_inputs(
    session: onnxruntime.InferenceSession,
    target: Target,
    sizes: Mapping[str, int],
    rng: np.random.Generator,
) -> dict[str, NDArray[np.generic]]:
    """Inputs of the shapes a session declares; open axes get `sizes`, or those of the target.

    Floats are normal; masks are ones and other integers zero, the one id every table has.
    Raises ValueError for an axis without a size and a type that NumPy cannot hold.
    """
    values = session.get_inputs()
    for value in values:
        if value.type not in TYPES:
            allowed = ", ".join(sorted(TYPES))
            raise ValueError(
                f"input {value.name} is a {value.type}: inputs can be made of {allowed}"
            )
    shapes = _shapes(values, sizes, target)
    try:
        return {v.name: _random_array(v.name, TYPES[v.type], shapes[v.name], rng) for v in values}
    except (MemoryError, ValueError) as error:  # NumPy says either of what is too big
        raise ValueError(f"inputs of shapes {shapes} do not fit into memory: {error}") from error


def _random_array(
    name: str, kind: type[np.generic], shape: list[int], rng: np.random.Generator
) -> NDArray[np.generic]:
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(shape).astype(kind)
    return np.full(shape, TEXT if kind is np.object_ else "mask" in name.lower(), kind)


def _shapes(
    values: Iterable[onnxruntime.NodeArg], sizes: Mapping[str, int], target: Target
) -> dict[str, list[int]]:
    """Input name -> shape. Raises ValueError that names every axis without a size."""
    known = _sizes_of(target) | dict(sizes)
    shapes = {value.name: [_size(axis, known) for axis in _axes(value)] for value in values}
    unknown = {
        str(axis): None
        for value in values
        for axis, size in zip(_axes(value), shapes[value.name], strict=True)
        if size is None
    }
    if unknown:
        options = " ".join(dict.fromkeys(map(_option, unknown)))
        raise ValueError(f"axes of unknown size: {', '.join(unknown)}; give {options}")
    return {name: [s for s in shape if s is not None] for name, shape in shapes.items()}


def _sizes_of(target: Target) -> dict[str, int]:
    """Sizes that a target gives to the names in use for its axes."""
    length = target.sequence_length or DEFAULT_SEQUENCE_LENGTH
    given = {"--batch": target.batch_size, "--sequence": length, "--image-size": target.image_size}
    return {
        name: size
        for option, names in OPTIONS.items()
        for name in names
        if (size := given[option]) is not None
    }


def options_for(session: onnxruntime.InferenceSession) -> str:
    """The options that set the axes which a model leaves open; empty where it leaves none."""
    axes = [axis for value in session.get_inputs() for axis in _axes(value)]
    return " ".join(dict.fromkeys(_option(axis) for axis in axes if isinstance(axis, str)))


def _option(axis: str) -> str:
    """The option that sets an axis."""
    known = (option for option, names in OPTIONS.items() if axis in names)
    return f"{option} N" if (option := next(known, None)) else f"--size '{axis}=N'"


def _axes(value: onnxruntime.NodeArg) -> list[int | str]:
    """Size or name of every axis; one without a name is called after its place."""
    return [
        axis if isinstance(axis, int | str) and axis != "" else f"{value.name}[{position}]"
        for position, axis in enumerate(value.shape)
    ]


def _size(axis: int | str, known: Mapping[str, int]) -> int | None:
    """Size of an axis; of one called after a sum, such as `past + 1`, by its terms."""
    if isinstance(axis, int) or axis in known:
        return axis if isinstance(axis, int) else known[axis]
    terms = [int(t) if t.isascii() and t.isdigit() else known.get(t) for t in _terms(axis)]
    if len(terms) < 2 or None in terms:
        return None
    return sum(term for term in terms if term is not None)


def _terms(axis: str) -> list[str]:
    return [term.strip() for term in axis.split("+")]
