"""What is shipped is what was measured: exported folders, opened as their users open them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.image_utils import load_image
from transformers.models.auto import image_processing_auto

from hardware.formats.fp32 import FP32
from hardware.formats.scheme import QuantScheme
from hardware.graph.template import Template
from hardware.session import open_session
from hardware.target import Target
from nas.delivery.exporter import Exporter
from nas.delivery.model_card import model_card
from nas.delivery.requests import preparation
from nas.evaluation.candidate import Candidate
from nas.evaluation.candidate_builder import CandidateBuilder, template_of
from nas.evaluation.score_meter import RuntimeScore
from supernets.data.data import TaskData, calibration_batches
from supernets.data.image_preprocessor import read_preprocessor
from supernets.families.registry import model_types
from supernets.load import load_data, load_supernet
from supernets.metrics.classes import ACCURACY
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, SpaceSettings

VIT: dict[str, Any] = {"image_processor_type": "ViTImageProcessor", "size": 16}
VARIANTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "vit": ("vit", 3, VIT),
    "no normalisation": ("vit", 3, {**VIT, "do_normalize": False}),
    "own rescale factor": ("vit", 3, {**VIT, "rescale_factor": 1 / 127.5, "image_mean": 1.0}),
    "bytes": ("vit", 3, {**VIT, "do_rescale": False, "image_mean": 128.0, "image_std": 64.0}),
    "grey": ("vit", 1, {**VIT, "image_mean": [0.4], "image_std": [0.3], "resample": 3}),
    "deit": ("vit", 3, {"image_processor_type": "DeiTImageProcessor", "size": 18, "crop_size": 16}),
    "clip": (
        "clip",
        3,
        {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": 18},
            "crop_size": {"height": 16, "width": 16},
        },
    ),
    "bit": (
        "resnet",
        3,
        {
            "image_processor_type": "BitImageProcessor",
            "size": {"shortest_edge": 18},
            "crop_size": {"height": 16, "width": 16},
        },
    ),
    "convnext": (
        "resnet",
        3,
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 16, "crop_pct": 0.8},
    ),
}
LABELS = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several modes and sizes, some of them taken with the camera on its side."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split in ("train", "test"):
        for place, label in enumerate(LABELS):
            (folder / split / label).mkdir(parents=True)
            for number in range(3 * place, 3 * place + 3):
                height, width = rng.integers(14, 40, 2)
                coarse = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
                image = Image.fromarray(coarse).resize((int(width), int(height)))
                exif = Image.Exif()
                exif[0x0112] = 1 + number % 8
                image = image.convert(("RGB", "L", "CMYK")[number % 3])
                image.save(folder / split / label / f"{number}.jpg", exif=exif.tobytes())
            image.convert("RGB").quantize(8).save(folder / split / label / "palette.png")
            image.convert("RGBA").save(folder / split / label / "alpha.png")
    return folder


def checkpoint(folder: Path, family: str, channels: int, preprocessor: dict[str, Any]) -> Path:
    """A checkpoint of random weights."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"id2label": dict(enumerate(LABELS))}
    model: Any
    if family in ("vit", "clip"):
        blocks: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2}
        blocks |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 4}
        blocks |= {"intermediate_size": 32, "num_channels": channels}
        if family == "vit":
            model = ViTForImageClassification(ViTConfig(**sizes, **blocks))
        else:
            model = CLIPForImageClassification(CLIPConfig(**sizes, vision_config=blocks))
    else:
        sizes |= {"embedding_size": 8, "depths": [1, 1], "hidden_sizes": [8, 16]}
        sizes["num_channels"] = channels
        model = ResNetForImageClassification(ResNetConfig(**sizes, layer_type="basic"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


TEMPLATES: dict[object, Template] = {}
"""Graphs hold no weights: networks of equal sizes share one, since exporting takes long."""


Shipped = tuple[Path, float, list[tuple[Path, int]]]


def ship(
    model: Path, pictures: Path, out: Path, space: SpaceSettings, smallest: bool = False
) -> Shipped:
    """Export one network; gives its folder, its test accuracy, and the test files with labels."""
    settings = ModelSettings(checkpoint=str(model))
    data = load_data(DataSettings(name=str(pictures)), settings)
    network = load_supernet(settings, data, 0).network
    genes = network.space(space)
    key = (network.config, space)
    if key not in TEMPLATES:
        TEMPLATES[key] = template_of(network, genes)
    builder = CandidateBuilder(
        network,
        genes,
        TEMPLATES[key],
        QuantScheme(),
        calibration_batches(data.train, samples=16),
    )
    genome = genes.smallest() if smallest else genes.largest()
    candidate = builder.uniform(genome, FP32)
    favour_no_class(builder, candidate, data)
    Exporter(builder, data).write(candidate, out)
    session = open_session(out / "model.onnx", Target())
    accuracy = RuntimeScore(builder, data.test).of_session(session, candidate).score(ACCURACY)
    config, prep = (
        json.loads((out / name).read_text()) for name in ("config.json", "preprocessor_config.json")
    )
    (out / "README.md").write_text(model_card("a", candidate, config, prep, None))
    files = [
        (file, number)
        for number, label in enumerate(LABELS)
        for file in sorted((pictures / "test" / label).iterdir())
    ]
    return out, accuracy, files


def favour_no_class(builder: CandidateBuilder, candidate: Candidate, data: TaskData) -> None:
    """Shift the logits so that the answers depend on the pixels."""
    batch = next(data.test.seen_by(dict(candidate.architecture)).batches(1000))
    with torch.no_grad():
        head = builder.supernet.get_submodule("head")
        assert isinstance(head, torch.nn.Linear)
        head.bias.sub_(builder.network(candidate)(**batch.inputs).mean(0))


def by_processor(folder: Path, file: Path) -> NDArray[np.float32]:
    """Logits as a transformers pipeline comes by them, but in plain ONNX Runtime."""
    config = json.loads((folder / "config.json").read_text())
    grey = {**config, **config.get("vision_config", {})}["num_channels"] == 1
    image = load_image(str(file))  # upright and in colour
    image = image.convert("L") if grey else image
    pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="np")["pixel_values"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    logits: NDArray[np.float32] = session.run(None, {"pixel_values": pixels.astype(np.float32)})[0]
    return logits


def by_card(folder: Path, file: Path) -> NDArray[np.float32]:
    """Logits of the code that the model card prints, for another file."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 12
    names: dict[str, Any] = {}
    told = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(told):
        exec(code.replace("image.png", str(file)), names)  # noqa: S102 # what users are told to run
    logits: NDArray[np.float32] = names["logits"]
    config = json.loads((folder / "config.json").read_text())
    assert told.getvalue().strip() == config["id2label"][str(logits[0].argmax())]
    return logits


def by_request(folder: Path, file: Path) -> NDArray[np.float32]:
    """Logits of what is timed as a whole request."""
    inputs = preparation(folder, {"pixel_values": np.zeros(0)})([file.read_bytes()])
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    logits: NDArray[np.float32] = session.run(["logits"], inputs)[0]
    return logits


def assert_as_measured(shipped: Shipped) -> None:
    """All ways of opening the folder give the accuracy that was measured."""
    folder, accuracy, files = shipped
    ways: list[Callable[[Path, Path], NDArray[np.float32]]] = [by_processor, by_card, by_request]
    found = [np.concatenate([way(folder, file) for file, _ in files]) for way in ways]
    labels = np.array([label for _, label in files])
    assert len(set(found[0].argmax(axis=1))) > 1, "a network that always says the same shows little"
    for logits in found:
        np.testing.assert_allclose(logits, found[0], atol=1e-5)
        assert float((logits.argmax(axis=1) == labels).mean()) == accuracy


@pytest.mark.parametrize("name", VARIANTS)
def test_the_shipped_folder_classifies_as_measured(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    family, channels, preprocessor = VARIANTS[name]
    model = checkpoint(tmp_path / "model", family, channels, preprocessor)
    sizes = {"inner_width": (0.5, 1)} if family == "resnet" else {"depth": (1, 2)}
    space = SpaceSettings.model_validate(sizes)
    shipped = ship(model, pictures, tmp_path / "shipped", space)
    assert_as_measured(shipped)


@pytest.mark.parametrize("name", ["vit", "deit"])
def test_a_network_of_smaller_images_classifies_as_measured(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    model = checkpoint(tmp_path / "model", *VARIANTS[name])
    space = SpaceSettings(depth=(2,), resolution=(8, 16))
    shipped = ship(model, pictures, tmp_path / "shipped", space, smallest=True)
    saved = json.loads((shipped[0] / "preprocessor_config.json").read_text())
    assert (saved.get("crop_size") or saved["size"])["height"] == 8
    assert_as_measured(shipped)


OWN: dict[str, dict[str, str]] = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]


@pytest.mark.parametrize("model_type", sorted(model_types().keys() & OWN.keys()))
def test_every_familys_own_preprocessor_is_shipped_as_it_was_read(
    model_type: str, tmp_path: Path
) -> None:
    kind = OWN[model_type]["pil"]
    getattr(transformers, kind)().save_pretrained(tmp_path)
    ours = read_preprocessor(tmp_path, None)
    (tmp_path / "shipped").mkdir()
    ours.save(tmp_path / "shipped")
    (tmp_path / "shipped" / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoImageProcessor.from_pretrained(tmp_path / "shipped", use_fast=False)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (300, 260, 3), dtype=np.uint8))
    expected = theirs(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours.normalise(ours.pixels(image)[None]), expected)
