"""The table of formats, and what holds for every one of them."""

from __future__ import annotations

import copy
import pickle

import pytest

from hardware.formats.format import Format
from hardware.formats.registry import FORMATS, find_format, ordered
from hardware.providers import PROVIDERS
from nas.experiment.schema import Experiment
from supernets.layers.twins.twin import twin_of


@pytest.mark.parametrize("entry", FORMATS.values(), ids=str)
def test_a_format_is_one_object_wherever_it_goes(entry: Format) -> None:
    assert find_format(entry.name) is entry
    assert copy.deepcopy(entry) is entry
    assert pickle.loads(pickle.dumps(entry)) is entry  # noqa: S301 # our own bytes
    assert twin_of(entry) is twin_of(entry)


def test_formats_are_ordered_from_small_to_large_whatever_their_order_in_the_table() -> None:
    names = [entry.name for entry in ordered()]
    assert set(names) == FORMATS.keys()
    assert [n for n in names if n in ("int4", "int8", "fp16", "fp32")] == [
        "int4", "int8", "fp16", "fp32",
    ]  # fmt: skip
    assert ordered(reversed(ordered())) == ordered()


def test_the_schema_offers_what_the_tables_hold() -> None:
    definitions = Experiment.model_json_schema()["$defs"]
    assert definitions["TargetSettings"]["properties"]["provider"]["enum"] == list(PROVIDERS)
    precision = definitions["SpaceSettings"]["properties"]["precision"]["anyOf"][0]
    names = precision["additionalProperties"]["items"]["enum"]
    assert names == [entry.name for entry in ordered()]
