"""What the driver of a run has written down for its workers and its own later starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from hardware.formats.scheme import Int4Kernel


@dataclass(frozen=True)
class RunState:
    """The state of a run beside its evaluations; see `Ledger.note`.

    experiment: what the study was made for, None before it was claimed.
    data: digests of the data and the checkpoint it is tuned with, None before it was claimed.
    latency: where it is measured: by who evaluates, or by `simqnas worker --measure latency`.
    open: whether workers of other machines are wanted.
    supernet: file name -> artifact, empty before it was sent.
    finished: whether there is nothing more to measure for other devices.
    probes: keys of the candidates that were polished during the search, and the round before which.
    int4_kernel: the one of all machines and resumptions, None before it was chosen.
    """

    experiment: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    latency: Literal["here", "elsewhere"] = "here"
    open: bool = True
    supernet: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False
    int4_kernel: Int4Kernel | None = None
    probes: Mapping[str, Any] | None = None

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """Read a study's attributes, among which Optuna and its tools may have their own."""
        names = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in attributes.items() if name in names})
