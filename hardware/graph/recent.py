"""A memo that keeps what was asked for last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, at most so many; the one not asked for longest goes first.

    Unlike functools.lru_cache of a method it does not hold the object it belongs to, whose graphs
    would then wait for the garbage collector.
    """

    def __init__(self, most: int) -> None:
        self._most, self._kept = most, OrderedDict[Key, Value]()

    def of(self, key: Key, make: Callable[[Key], Value]) -> Value:
        """The value of a key, made if it is not kept."""
        if key not in self._kept:
            self._kept[key] = make(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
