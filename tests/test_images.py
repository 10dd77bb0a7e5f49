"""Image files and the preprocessing of checkpoints: what transformers and Pillow make of them."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from transformers import AutoImageProcessor

from supernets.data import decode as decoding
from supernets.data.data import Split
from supernets.data.decode import decode, load_images
from supernets.data.hf_datasets import Table
from supernets.data.image_preprocessor import ImagePreprocessor, read_preprocessor
from supernets.data.images import ImageSplit
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data
from supernets.settings import DataSettings
from tests.sample_images import content

VIT = ModelSettings.model_validate({"vit": {"image_size": 16}})
TO_16 = ImagePreprocessor.plain(16)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def noise(height: int, width: int, channels: int = 3) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def read(entry: object, folder: Path) -> Tensor:
    """The bytes of an image that can be read."""
    given = decode(entry, TO_16, folder)
    assert isinstance(given, Tensor), given
    return given


def part(split: Split) -> ImageSplit:
    assert isinstance(split, ImageSplit)
    return split


def bytes_of(image: Image.Image) -> Tensor:
    return TO_16.pixels(image)


# Preprocessing

VIT_TYPE: dict[str, Any] = {"image_processor_type": "ViTImageProcessor"}
PREPROCESSORS: dict[str, dict[str, Any]] = {
    "vit": {**VIT_TYPE, "size": {"height": 20, "width": 20}},
    "number": {
        **VIT_TYPE,
        "size": 20,
        "resample": 3,
        "image_mean": 0.4,
        "image_std": [0.1, 0.2, 0.3],
    },
    "list": {**VIT_TYPE, "size": [20, 20], "resample": 0},
    "not normalised": {**VIT_TYPE, "size": 20, "do_normalize": False},
    "rescale factor": {**VIT_TYPE, "size": 20, "rescale_factor": 1 / 127.5, "image_mean": 1.0},
    "bytes": {**VIT_TYPE, "size": 20, "do_rescale": False, "do_normalize": False},
    "fast": {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 20, "width": 20}},
    "old vit": {"feature_extractor_type": "ViTFeatureExtractor", "size": 20, "resample": 2},
    "old convnext": {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "size": 20,
        "crop_pct": 0.8,
        "resample": 3,
    },
    "convnext": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 20}},
    "large convnext": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 384},
    },
    "deit": {"image_processor_type": "DeiTImageProcessor", "size": 23, "crop_size": 20},
    "bit": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 23},
        "crop_size": {"height": 20, "width": 20},
    },
    "clip": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 20},
        "crop_size": {"height": 20, "width": 20},
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 20, "width": 20},
        "resample": 3,
    },
    "beit": {"image_processor_type": "BeitImageProcessor", "size": 20, "crop_size": 20},
    "cut alone": {
        "image_processor_type": "DeiTImageProcessor",
        "do_resize": False,
        "crop_size": 20,
    },
    "flipped": {
        "image_processor_type": "MobileViTImageProcessor",
        "size": 23,
        "crop_size": 20,
        "do_flip_channel_order": True,
    },
}


def write(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


def by_transformers(folder: Path, image: Image.Image) -> NDArray[np.float32]:
    """What transformers makes of an image without torchvision, `(C, H, W)`."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels: NDArray[np.float32] = processor(image, return_tensors="np")["pixel_values"][0]
    return pixels


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_preprocessing_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    """Exactly, for pictures of any shape; and so is that of what is exported."""
    ours = read_preprocessor(write(tmp_path, PREPROCESSORS[name]), None)
    out = tmp_path / "out"
    out.mkdir()
    ours.save(out)
    assert ours.image_size == (384 if name == "large convnext" else 20)
    for height, width in ((40, 60), (61, 33), (7, 9), (20, 20), (90, 21)):
        image = noise(height, width)
        given = ours.normalise(ours.pixels(image)[None])[0].numpy()
        np.testing.assert_array_equal(given, by_transformers(tmp_path, image))
        np.testing.assert_array_equal(given, by_transformers(out, image))


def test_the_processor_may_follow_from_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    ours = read_preprocessor(write(tmp_path, {"size": 20, "crop_pct": 0.5}), None)
    ours.save(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "ConvNextImageProcessor"
    assert (saved["size"], saved["crop_pct"]) == ({"shortest_edge": 20}, 0.5)


def test_grey_images_stay_grey(tmp_path: Path) -> None:
    config = {**VIT_TYPE, "size": 20, "image_mean": [0.3], "image_std": [0.2]}
    ours = read_preprocessor(write(tmp_path, config), None, channels=1)
    image = noise(30, 40)
    given = ours.normalise(ours.pixels(image)[None])[0].numpy()
    np.testing.assert_array_equal(given, by_transformers(tmp_path, image.convert("L")))


@pytest.mark.parametrize("name", ["vit", "old convnext", "deit", "bit", "cut alone", "flipped"])
def test_another_size_is_the_same_steps(name: str, tmp_path: Path) -> None:
    """At half the size: half of every size the processor names."""
    config = dict(PREPROCESSORS[name])
    given = read_preprocessor(write(tmp_path, config), 10)
    for field in {"size", "crop_size"} & set(config):
        sides = config[field] if isinstance(config[field], dict) else {"": config[field]}
        halves = {key: round(side / 2) for key, side in sides.items()}
        config[field] = halves.get("", halves)
    image = noise(31, 47)
    expected = by_transformers(write(tmp_path, config), image)
    np.testing.assert_array_equal(given.normalise(given.pixels(image)[None])[0], expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order: True, which ViTImageProcessor"),
        ({"do_pad": True, "pad_size": 40}, "it is asked for .*do_pad"),
        ({"do_resize": False}, r"'do_resize': False.* gives images of 3 x 40 x 60 and"),
        ({"size": {"height": 20, "width": 30}}, "gives images of 3 x 20 x 30; the network reads"),
        ({"size": {"shortest_edge": 20}}, "3 x 20 x 20 and 3 x 20 x 30 and 3 x 30 x 20"),
        ({"size": "large"}, "large"),
        ({"size": -3}, "height and width must be > 0"),
        ({"resample": "bicubic"}, "resample is 'bicubic'; give Pillow's number"),
        ({"resample": 77}, "77"),
        ({"do_normalize": "false"}, "do_normalize is 'false'; give true or false"),
        ({"image_mean": [0.5]}, r"image_mean is \[0.5\], but the network reads 3 channel"),
        ({"image_std": 0.0}, "not finite"),
        ({"image_std": 1e-30}, "of which no network learns"),
        ({"rescale_factor": 0}, r"values of -1 to -1 of a picture, of which no network learns"),
        ({"image_processor_type": "NoSuchProcessor"}, "Name one of transformers' own classes"),
        ({"image_processor_type": None}, "Name one of transformers' own classes"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_preprocessing_that_cannot_be_done_is_one_line(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = {key: v for key, v in {**VIT_TYPE, "size": 20, **config}.items() if v is not None}
    with pytest.raises(ValueError, match=message) as caught:
        read_preprocessor(write(tmp_path, config), None)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no readable JSON"), ("[1]", "must describe an image processor"), (None, "has no")],
)
def test_a_preprocessor_file_that_is_none_is_one_line(
    text: str | None, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_preprocessor(tmp_path, None)


def test_fields_that_transformers_leaves_aside_are_told(tmp_path: Path) -> None:
    ours = read_preprocessor(write(tmp_path, {**VIT_TYPE, "size": 20, "crop_pct": 0.9}), None)
    (note,) = ours.notes
    assert "does not know crop_pct: 0.9" in note


def test_channels_that_files_do_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reads images of 4 channels"):
        read_preprocessor(write(tmp_path, {**VIT_TYPE, "size": 20}), None, channels=4)


# Files


def png_of_16_bits(values: NDArray[np.int64]) -> bytes:
    """A grey PNG of these 16-bit values, as the PNG specification lays it out."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_every_mode_is_converted_as_pillow_does(tmp_path: Path) -> None:
    colour = noise(24, 30)
    see_through = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    files = {
        "1": content(colour.convert("1")),
        "L": content(colour.convert("L")),
        "LA": content(colour.convert("LA")),
        "P": content(see_through, transparency=3),
        "RGBA": content(noise(24, 30, 4)),
        "CMYK": content(colour.convert("CMYK"), "TIFF"),
        "YCbCr": content(colour, "JPEG"),
        "frames": content(colour, "TIFF", save_all=True, append_images=[noise(24, 30)]),
        "moving": content(colour, "GIF", save_all=True, append_images=[noise(24, 30)]),
        "dot": content(noise(1, 1)),
        "line": content(noise(1, 400)),
    }
    for name, file in files.items():
        expected = bytes_of(Image.open(io.BytesIO(file)).convert("RGB"))
        assert torch.equal(read({"bytes": file, "path": None}, tmp_path), expected), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_the_camera_was(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = content(noise(24, 30), "JPEG", exif=exif.tobytes())
    expected = bytes_of(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
    assert torch.equal(read(file, tmp_path), expected)


def test_deep_pictures_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 5
    values = RNG.integers(0, 256, (24, 30))
    file = content(Image.fromarray(values.astype(np.uint16)), exif=exif.tobytes())
    expected = bytes_of(Image.fromarray(values.T.astype(np.uint8)))
    assert torch.equal(read(file, tmp_path), expected)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says of such files
def test_damaged_exif_data_does_not_matter(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    whole = exif.tobytes()
    rng, picture = np.random.default_rng(1), noise(24, 30)
    damaged = [whole[:length] for length in range(6, len(whole), 3)]
    for _ in range(200):
        changed = np.frombuffer(whole, np.uint8).copy()
        changed[rng.integers(6, len(changed), 3)] = rng.integers(0, 256, 3)
        damaged.append(changed.tobytes())
    plain = Image.open(io.BytesIO(content(picture, "JPEG")))
    upright = [bytes_of(plain), *(bytes_of(plain.transpose(t)) for t in decoding.TURNS.values())]
    for data in damaged:
        given = read(content(picture, "JPEG", exif=data), tmp_path)
        assert any(torch.equal(given, one) for one in upright)


def test_values_beyond_8_bits_are_no_silent_white(tmp_path: Path) -> None:
    small = RNG.integers(0, 256, (6, 8))
    large = small * 257
    for dtype in (np.uint16, np.int32, np.float32):
        image = Image.fromarray(small.astype(dtype))
        expected = bytes_of(Image.fromarray(small.astype(np.uint8)))
        assert torch.equal(read(content(image, "TIFF"), tmp_path), expected)
        reason = decode(content(Image.fromarray(large.astype(dtype)), "TIFF"), TO_16, tmp_path)
        assert "beyond 8 bits" in reason
    fractions = Image.fromarray((small / 255).astype(np.float32))
    assert "beyond 8 bits" in decode(content(fractions, "TIFF"), TO_16, tmp_path)
    assert "beyond 8 bits" in decode(png_of_16_bits(large), TO_16, tmp_path)


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = content(noise(40, 40))
    assert decode(None, TO_16, tmp_path) == "missing"
    assert decode({"bytes": None, "path": None}, TO_16, tmp_path) == "missing"
    assert decode({"bytes": None, "path": "x.png"}, TO_16, tmp_path) == "no such file"
    assert decode("https://host/x.png", TO_16, tmp_path) == "no such file"
    for file in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"no image"):
        assert decode(file, TO_16, tmp_path) == "no image that Pillow knows"
    assert decode(whole[: len(whole) // 2], TO_16, tmp_path) == "damaged or cut off"
    assert decode(str(tmp_path), TO_16, tmp_path) == "damaged"
    assert "neither a file nor" in decode(3, TO_16, tmp_path)
    assert "neither a file nor" in decode([[1, 2], [3]], TO_16, tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    assert "larger than Pillow's limit of 1,400" in decode(whole, TO_16, tmp_path)
    narrow = ImagePreprocessor.plain(16)
    monkeypatch.setattr(ImagePreprocessor, "shorter_side", 16)
    assert "larger than Pillow's limit" in decode(content(noise(1, 400)), narrow, tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says of such files
def test_damage_anywhere_is_a_reason_not_an_error(tmp_path: Path) -> None:
    rng, picture = np.random.default_rng(2), noise(20, 20)
    kinds = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "ICO", "PPM", "TGA", "SGI", "PCX")
    for kind in kinds:
        whole = np.frombuffer(content(picture, kind), np.uint8)
        for _ in range(60):
            changed = whole.copy()
            changed[rng.integers(0, min(len(changed), 200), 4)] = rng.integers(0, 256, 4)
            given = decode(changed.tobytes(), TO_16, tmp_path)
            assert isinstance(given, str) or given.shape == (3, 16, 16)


def test_values_may_be_images(tmp_path: Path) -> None:
    colour = np.asarray(noise(24, 30))
    expected = bytes_of(Image.fromarray(colour))
    for values in (colour, colour.tolist(), np.moveaxis(colour, 2, 0), colour.astype(float)):
        assert torch.equal(read(values, tmp_path), expected)
    grey = bytes_of(Image.fromarray(colour[..., 0]))
    for values in (colour[..., 0], colour[..., :1], colour[None, ..., 0]):
        assert torch.equal(read(values, tmp_path), grey)


# Splits


def table_of(images: list[Any], feature: ImageFeature | None = None) -> Table:
    features = Features({"image": feature, "label": Value("int64")}) if feature else None
    data = Dataset.from_dict({"image": images, "label": list(range(len(images)))}, features)
    return Table(data, np.arange(len(images)), np.arange(len(images)), len(images), {}, "train")


def test_unreadable_images_are_counted_by_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [content(noise(20, 20)) for _ in range(4)]
    broken = [None, b"no image", None, good[0][:-60]]
    entries = [file and {"bytes": file, "path": None} for file in (*good[:2], *broken, *good[2:])]
    table = table_of(entries, ImageFeature())
    with pytest.raises(
        ValueError,
        match=r"row 3 .* of the train split is no image that can be used: missing; repair",
    ):
        load_images(table, "image", TO_16, skip_broken=False)
    for memory in (decoding.MEMORY_BYTES, 0):
        monkeypatch.setattr(decoding, "MEMORY_BYTES", memory)
        images = load_images(table, "image", TO_16, skip_broken=True)
        assert images.kept.tolist() == [0, 1, 6, 7]
        assert [row for row, why in images.unreadable.items() if why == "missing"] == [2, 4]
        assert sorted(images.unreadable) == [2, 3, 4, 5]
        for position, file in enumerate(good):
            expected = bytes_of(Image.open(io.BytesIO(file)))
            assert torch.equal(images.pixels[torch.tensor([position])][0], expected)
    with pytest.raises(ValueError, match=r"none of 2 images in .* can be used: 2 missing"):
        load_images(table_of([None, None], ImageFeature()), "image", TO_16, skip_broken=True)


@pytest.mark.parametrize("kind", ["paths", "bytes", "values", "both"])
def test_columns_of_other_kinds_hold_images_too(kind: str, tmp_path: Path) -> None:
    pictures = [noise(20, 20) for _ in range(3)]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    columns: dict[str, list[Any]] = {
        "paths": ["0.png", "1.png", "2.png"],
        "bytes": [content(picture) for picture in pictures],
        "values": [np.asarray(picture).tolist() for picture in pictures],
        "both": [{"bytes": None, "path": f"{number}.png"} for number in range(3)],
    }
    images = load_images(table_of(columns[kind]), "image", TO_16, False, tmp_path)
    expected = torch.stack([bytes_of(picture) for picture in pictures])
    assert torch.equal(images.pixels[torch.arange(3)], expected)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    for split, n in (("train", 8), ("test", 3)):
        for label in ("cat", "dog"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                noise(20, 24).save(folder / f"{i}.png")
    return tmp_path


def test_image_folders_open(image_folder: Path) -> None:
    data = load_data(DataSettings(name=str(image_folder), holdout=0.25), VIT)
    assert data.label_names == ("cat", "dog")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12, 4, 6]
    batch = next(data.test.batches(4))
    assert batch.inputs["pixel_values"].shape == (4, 3, 16, 16)


def test_lazy_decoding_gives_the_same_images(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataSettings(name=str(image_folder))
    kept = load_data(settings, VIT)
    monkeypatch.setattr(decoding, "MEMORY_BYTES", 0)
    lazy = load_data(settings, VIT)
    for a, b in zip(kept.train.batches(5), lazy.train.batches(5), strict=True):
        assert torch.equal(a.inputs["pixel_values"], b.inputs["pixel_values"])
        assert torch.equal(a.labels, b.labels)
    small = [part(data.test).resized_to(8).pixels[torch.arange(6)] for data in (kept, lazy)]
    assert torch.equal(*small)


def test_a_smaller_size_is_made_from_the_pictures(image_folder: Path) -> None:
    """As a client does it, not from images that were made smaller before."""
    data = load_data(DataSettings(name=str(image_folder)), VIT)
    small = part(data.test).resized_to(8)
    expected = ImagePreprocessor.plain(8).pixels(Image.open(image_folder / "test/cat/0.png"))
    assert torch.equal(small.pixels[torch.tensor([0])][0], expected)
    assert data.test.seen_by({"resolution": 8}) is small
    assert data.test.seen_by({"resolution": 16}) is data.test is data.test.seen_by({})


@pytest.mark.parametrize("cut", [0, 60])
def test_a_broken_image_is_named_when_it_is_found(
    cut: int, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, but for damage inside files that are decoded only when they are needed."""
    monkeypatch.setattr(decoding, "MEMORY_BYTES", 0)
    file = image_folder / "test" / "dog" / "1.png"
    file.write_bytes(file.read_bytes()[: cut and -cut])
    settings, message = DataSettings(name=str(image_folder)), r"row 5 of .* \(.*dog/1\.png\)"
    if cut:
        data = load_data(settings, VIT)
        with pytest.raises(ValueError, match=message):
            list(data.test.batches(4))
    else:
        with pytest.raises(ValueError, match=message):
            load_data(settings, VIT)
    data = load_data(DataSettings(name=str(image_folder), skip_broken=True), VIT)
    assert sum(len(batch.labels) for batch in data.test.batches(4)) == 5


def test_a_broken_image_is_named_or_left_out(image_folder: Path) -> None:
    (image_folder / "test" / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"row 5 of column 'image' \(.*dog/1\.png\)"):
        load_data(DataSettings(name=str(image_folder)), VIT)
    data = load_data(DataSettings(name=str(image_folder), skip_broken=True), VIT)
    assert len(data.test) == 5
    assert part(data.test).labels.tolist() == [0, 0, 0, 1, 1]
    (reason,) = data.source.account.splits["test"].left_out
    assert "cannot be read (1 no image that Pillow" in reason


def test_images_that_patches_do_not_cover_are_refused(image_folder: Path) -> None:
    settings = DataSettings(name=str(image_folder), image_size=18)
    with pytest.raises(ValueError, match=r"18 pixels .* patches of 4 do not cover; .* 16 or 20"):
        load_data(settings, VIT)
    resnet = ModelSettings.model_validate({"resnet": {}})
    assert part(load_data(settings, resnet).test).preprocessor.image_size == 18


def test_saved_preprocessor_is_read_back(tmp_path: Path) -> None:
    ours = ImagePreprocessor.plain(16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    ours.save(tmp_path)
    again = read_preprocessor(tmp_path, None)
    assert again.image_size == 16
    assert torch.equal(again.values, ours.values)
    assert AutoImageProcessor.from_pretrained(tmp_path).size["height"] == 16


def test_images_larger_than_any_network_reads_are_refused(tmp_path: Path) -> None:
    size = {"height": 224_000, "width": 224_000}
    folder = write(tmp_path, {"image_processor_type": "ViTImageProcessor", "size": size})
    with pytest.raises(ValueError, match="asks for images of 224,000 pixels a side; at most 4,096"):
        read_preprocessor(folder, None)
