"""Tests of simqnas."""

import gc

gc.disable()  # while files are imported, which is half as much work; see `pytest_collection_finish`
