"""All formats. A new one is a line here and a file beside this one; its twin in torch is
`supernets/layers/twins/<name>.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from hardware.formats.format import Format
from hardware.formats.fp16 import FP16
from hardware.formats.fp32 import FP32
from hardware.formats.int2 import INT2
from hardware.formats.int3 import INT3
from hardware.formats.int4 import INT4
from hardware.formats.int8 import INT8
from hardware.formats.int8_weight_only import INT8_WEIGHT_ONLY

FORMATS: dict[str, Format] = {
    "int2": INT2,
    "int3": INT3,
    "int4": INT4,
    "int8": INT8,
    "int8_weight_only": INT8_WEIGHT_ONLY,
    "fp16": FP16,
    "fp32": FP32,
}


def find_format(name: object) -> Format:
    """The format of a name. Raises ValueError with those that there are."""
    if not isinstance(name, str) or name not in FORMATS:
        raise ValueError(f"no format {name!r}; allowed are {', '.join(map(str, ordered()))}")
    return FORMATS[name]


def ordered(formats: Iterable[Format] | None = None) -> tuple[Format, ...]:
    """Formats, or all of them, from small to large."""
    chosen = FORMATS.values() if formats is None else formats
    return tuple(sorted(chosen, key=lambda entry: entry.order))


FormatName = Annotated[
    str,
    AfterValidator(lambda name: find_format(name).name),
    Field(json_schema_extra=lambda schema: schema.update(enum=[x.name for x in ordered()])),
]
"""The name of a format in an experiment file."""
