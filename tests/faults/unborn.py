"""Imported by the process that victims are forked from: what they all begin with is done here."""

from __future__ import annotations

import gc

import pytest
import torch

import hardware.latency
import nas.pipeline  # noqa: F401 # all that a run imports
from nas.evaluation.candidate_builder import template_of
from nas.experiment.schema import Experiment
from supernets.load import load_data, load_supernet
from tests.conftest import HURRIED_S
from tests.faults.victim import EXPERIMENT
from tests.once import share_work

torch.set_num_threads(1)  # a process with threads of torch's own must not be forked
hardware.latency.PATIENCE_S, hardware.latency.TIMED_S = 0, HURRIED_S
share_work(pytest.MonkeyPatch())
_experiment = Experiment.model_validate(EXPERIMENT)
_data = load_data(_experiment.data, _experiment.model)
_network = load_supernet(_experiment.model, _data, 0).network
template_of(_network, _network.space(_experiment.space))
gc.freeze()
gc.enable()
