"""Functions of the user's own, imported because the experiment file names them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pkgutil import resolve_name
from typing import Any

PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_place(text: str) -> bool:
    """Whether a text is written as `package.module:function`."""
    return PLACE.fullmatch(text) is not None


@cache
def user_function(place: str, field: str) -> Callable[..., Any]:
    """The function at `package.module:function`, looked for from the current folder on.

    Raises ValueError, naming the field, for one that cannot be imported.
    """
    if not is_place(place):
        raise ValueError(f"{field}: {place!r} is not written as package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        found = resolve_name(place)
    except Exception as error:  # whatever the user's module raises
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"{field}: {place} cannot be imported from {os.getcwd()} ({type(error).__name__}: "
            f"{reason}); start in the folder that holds {place.split('.')[0].split(':')[0]}"
        ) from error
    if not callable(found):
        raise ValueError(f"{field}: {place} is no function, but {type(found).__name__}")
    return found  # type: ignore[no-any-return] # of the user's own types
