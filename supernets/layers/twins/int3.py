"""INT3 weights, whose codes stand for the levels of a codebook."""

from hardware.formats.int3 import INT3
from supernets.layers.twins.codebook import CodebookTwin

TWIN = CodebookTwin(INT3.book)
