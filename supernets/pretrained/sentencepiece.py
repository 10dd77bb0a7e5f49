"""SentencePiece models as XLM-RoBERTa numbers their pieces, read without that library.

The file is a protobuf (sentencepiece_model.proto of https://github.com/google/sentencepiece): field
1 are the pieces, each of a text (1) and a score (2), field 3 the normaliser with its table (2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, XLMRobertaTokenizer

from supernets.data.vocabulary.tokenizer import read_tokenizer
from supernets.families.hugging_face import CheckpointError
from supernets.pretrained.checkpoint import SENTENCEPIECE_FILES

OWN = ("<unk>", "<s>", "</s>")
"""First pieces of a file, which get other numbers."""
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Protobuf's wire types."""


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer: a fast one if it has one, else of its SentencePiece file.

    Raises CheckpointError where there is neither, or the file is none.
    """
    if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return read_tokenizer(folder)
    file = next((folder / name for name in SENTENCEPIECE_FILES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(
            f"model.checkpoint: {folder} has no tokenizer, which texts need; put its "
            "tokenizer.json there, or its SentencePiece file under one of the names "
            f"{', '.join(SENTENCEPIECE_FILES)}"
        )
    try:
        pieces, table = read_pieces(file.read_bytes())
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise CheckpointError(
            f"model.checkpoint: {file} is no SentencePiece model of XLM-RoBERTa's kind ({error}); "
            "download it again"
        ) from error
    ordered = [*((name, 0.0) for name in SPECIAL), *pieces[len(OWN) :], ("<mask>", 0.0)]
    charsmap: Any = table or None  # bytes, whatever its annotation says
    return XLMRobertaTokenizer(vocab=ordered, _spm_precompiled_charsmap=charsmap)


def read_pieces(content: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """Pieces with their scores, and the table of the normaliser. Raises ValueError for others."""
    pieces, table = [], b""
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            parts = dict(_fields(value))
            text, score = parts.get(1, b""), parts.get(2, b"\0" * 4)
            if not (isinstance(text, bytes) and isinstance(score, bytes)):
                raise ValueError("a piece's text or score is a number of another kind")
            pieces.append((text.decode(), float(struct.unpack("<f", score)[0])))
        elif number == 3 and isinstance(value, bytes):
            found = dict(_fields(value)).get(2, b"")
            table = found if isinstance(found, bytes) else b""
    if tuple(text for text, _ in pieces[: len(OWN)]) != OWN:
        raise ValueError(f"its first pieces are not {', '.join(OWN)}")
    return pieces, table


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        if key & 7 == VARINT:
            value, place = _varint(content, place)
            yield key >> 3, value
            continue
        sizes = {FIXED64: 8, FIXED32: 4}
        if key & 7 == BYTES:
            size, place = _varint(content, place)
        elif key & 7 in sizes:
            size = sizes[key & 7]
        else:
            raise ValueError(f"byte {place} begins no field")
        if place + size > len(content):
            raise ValueError("it ends early")
        yield key >> 3, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
