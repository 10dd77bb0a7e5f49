"""INT2 weights, whose codes stand for the levels of a codebook."""

from hardware.formats.int2 import INT2
from supernets.layers.twins.codebook import CodebookTwin

TWIN = CodebookTwin(INT2.book)
