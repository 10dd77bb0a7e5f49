"""Work that many tests ask for and that always comes out the same, done once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor
from torch._export import utils as exporting
from torch.onnx._internal.exporter._registration import ONNXRegistry

from hardware.files import replacing
from hardware.graph.template import Template
from hardware.portability import run_in_python
from hardware.portability.runtimes import Runtime
from supernets.data.builtin import pydoc_text
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
    """Keep templates, the exporter's tables of operators, sentences and digits that come with this
    package, as they are prepared, and the ONNX Runtime that is imported."""
    patch.setattr("nas.evaluation.candidate_builder._EXPORTED", Shelf())
    patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
    patch.setattr(exporting, "_materialize_cpp_cia_ops", cache(exporting._materialize_cpp_cia_ops))
    patch.setattr(pydoc_text, "collect", cache(pydoc_text.collect))
    plain, known = GreyPictures.prepared, dict[tuple[object, ...], Tensor]()

    def prepared(pictures: GreyPictures, preprocessor: ImagePreprocessor) -> Tensor:
        grey = pictures.grey.numpy()
        content = grey.shape, hashlib.sha256(grey.tobytes()).digest()
        key = (*content, preprocessor.channels, preprocessor.processor.to_json_string())
        if key not in known:
            known[key] = plain(pictures, preprocessor)
        return known[key].clone()

    patch.setattr(GreyPictures, "prepared", prepared)
    in_a_process = Runtime._call

    def call(
        runtime: Runtime,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """The one that is imported here runs here; what it cannot is told by its own process."""
        if runtime == Runtime("onnxruntime"):
            with suppress(Exception):
                run_in_python.main(*map(str, command[2:]))
                return
        in_a_process(runtime, command, environment)

    patch.setattr(Runtime, "_call", call)
