"""Work that many tests ask for and that always comes out the same, done once."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor
from torch.onnx._internal.exporter._registration import ONNXRegistry

from hardware.files import replacing
from hardware.graph.template import Template
from supernets.data.builtin.digits import GreyPictures
from supernets.data.image_preprocessor import ImagePreprocessor

SHELF = "SIMQNAS_TEST_TEMPLATES"
"""Environment variable: the folder in which all processes of a test run leave their templates."""


class Shelf(dict[str, Template]):
    """Templates that this process exported, or another one."""

    def __contains__(self, key: object) -> bool:
        place = self._place(key)
        if not super().__contains__(key) and place.exists():
            super().__setitem__(str(key), Template.load(place))
        return super().__contains__(key)

    def __setitem__(self, key: str, template: Template) -> None:
        super().__setitem__(key, template)
        with replacing(self._place(key)) as part:
            template.save(part)

    def _place(self, key: object) -> Path:
        return Path(os.environ[SHELF], f"{hashlib.sha256(str(key).encode()).hexdigest()}.onnx")


def share_work(patch: pytest.MonkeyPatch) -> None:
    """Keep templates, the exporter's table of operators, and digits as preprocessors make them."""
    patch.setattr("nas.evaluation.candidate_builder._EXPORTED", Shelf())
    patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
    plain, known = GreyPictures.prepared, dict[tuple[object, ...], Tensor]()

    def prepared(pictures: GreyPictures, preprocessor: ImagePreprocessor) -> Tensor:
        grey = pictures.grey.numpy()
        content = grey.shape, hashlib.sha256(grey.tobytes()).digest()
        key = (*content, preprocessor.channels, preprocessor.processor.to_json_string())
        if key not in known:
            known[key] = plain(pictures, preprocessor)
        return known[key].clone()

    patch.setattr(GreyPictures, "prepared", prepared)
