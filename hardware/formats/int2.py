"""INT2: four codes in a byte."""

from hardware.formats.codebook.format import CodebookFormat
from hardware.formats.codebook.weights import Codebook


class _Int2(CodebookFormat):
    name, bits, decoder = "int2", 2, "int2"
    book = Codebook((-1, -0.4, 0, 0.55), codes_per_word=4, bytes_per_word=1)


INT2 = _Int2()
