"""From the widths of an experiment file to sizes a network has, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from supernets.settings import DEFAULT_PRECISION, SpaceSettings


@dataclass(frozen=True)
class Axis:
    """One thing a family can vary.

    full: the largest size; of sizes that differ between stages, the smallest of those. default:
    choices if the settings give none; empty leaves the size fixed. multiple: fractions are rounded
    to it. strict: whole numbers must be multiples too.
    """

    full: int
    default: Sequence[float] = ()
    multiple: int = 1
    strict: bool = False

    def sizes(self, widths: Sequence[float] | None, full: int | None = None) -> tuple[int, ...]:
        """Ascending sizes from whole numbers and fractions of `full`."""
        whole = full or self.full
        return tuple(sorted({self._size(width, whole) for width in widths or self.default}))

    def _size(self, width: float, full: int) -> int:
        if isinstance(width, int):
            return width
        return min(full, max(1, round(width * full / self.multiple)) * self.multiple)

    def problems(self, field: str, widths: Sequence[float]) -> Iterable[str]:
        """What is wrong with the whole numbers among the widths."""
        for width in widths:
            if isinstance(width, int) and width > self.full:
                yield (
                    f"space.{field}: {width} is larger than the network's {self.full}; give "
                    f"values up to {self.full}, or fractions"
                )
            elif isinstance(width, int) and self.strict and width % self.multiple:
                yield f"space.{field}: {width} is no multiple of {self.multiple}"


def problems(
    settings: SpaceSettings, axes: Mapping[str, Axis], layers: Sequence[str], family: str
) -> list[str]:
    """Everything in the settings that this network cannot do."""
    found = []
    for field in SpaceSettings.model_fields:
        if field in ("preset", "precision"):
            continue
        given = getattr(settings, field)
        if given is not None and field not in axes:
            found.append(f"space.{field}: a {family} network has no such axis; remove it")
        elif given is not None:
            found += axes[field].problems(field, given)
    for pattern in settings.precision or DEFAULT_PRECISION:
        if not any(fnmatchcase(name, pattern) for name in layers):
            found.append(
                f"space.precision: pattern {pattern!r} fits no layer; layers are "
                f"{', '.join(layers)}"
            )
    return found
