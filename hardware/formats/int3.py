"""INT3: eight codes in three bytes."""

from hardware.formats.codebook.format import CodebookFormat
from hardware.formats.codebook.weights import Codebook

LEVELS = (-1, -0.65, -0.385, -0.175, 0, 0.2, 0.43, 0.745)


class _Int3(CodebookFormat):
    name, bits, decoder = "int3", 3, "int3"
    book = Codebook(LEVELS, codes_per_word=8, bytes_per_word=3)


INT3 = _Int3()
