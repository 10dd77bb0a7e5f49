"""Images as files hold them."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """What a file of this kind holds."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
