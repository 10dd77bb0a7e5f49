"""What is known before anything is trained: of the start, the data and the machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hardware.target import cpu_flags, int8_overflows
from nas.experiment.given import is_given
from nas.experiment.schema import Experiment
from supernets.data.data import TaskData
from supernets.data.text import TextSplit
from supernets.families.sizes import TransformerSizes
from supernets.load import has_new_classifier, parameter_count, parts_of
from supernets.pretrained.weights import model_config
from supernets.training.train import training_device

FAST_IN_BF16 = "amx_int8"
"""Flag of processors that also multiply matrices of bfloat16 in tiles."""


@dataclass(frozen=True)
class Facts:
    """What the values of a recipe follow from.

    width: of a transformer's residual stream; None for other families. tokens: the 95th percentile
    of the training texts' lengths, and the most that the model takes; None where there are no
    texts. noisy: whether tokens can be replaced at random. bf16: whether the device that trains is
    faster in bfloat16. task, metric: what the data asks, and its usual metric. taught_alone:
    whether there is nothing to learn but the checkpoint's own answers. new_classifier: whether the
    checkpoint brings none for the data's labels. overflows: whether models are served by a
    processor on which INT8 weights of full range do.
    """

    pretrained: bool
    width: int | None
    parameters: int
    samples: int
    tokens: tuple[int, int] | None
    noisy: bool
    bf16: bool
    task: str = "classification"
    metric: str = "accuracy"
    taught_alone: bool = False
    new_classifier: bool = False
    overflows: bool = False

    @classmethod
    def of(cls, experiment: Experiment, data: TaskData) -> Facts:
        """Look at an experiment's model and data, and at this machine."""
        sizes = model_config(experiment.model)
        # What follows from it; a run that goes on need not read its checkpoint for that.
        settled = all(is_given(experiment, where) for where in ("model.training", "tune.teacher"))
        return cls(
            pretrained=experiment.model.checkpoint is not None,
            width=sizes.embed_dim if isinstance(sizes, TransformerSizes) else None,
            parameters=parameter_count(experiment.model, data),
            samples=len(data.train),
            tokens=_tokens(data),
            noisy=isinstance(data.train, TextSplit),
            bf16=_fast_in_bf16(experiment.tune.device),
            task=data.task.name,
            metric=data.task.metrics[0],
            taught_alone=data.task.taught_alone,
            new_classifier=not settled and has_new_classifier(experiment.model, data),
            overflows=experiment.target.provider == "cpu" and int8_overflows(cpu_flags()),
        )


def _tokens(data: TaskData) -> tuple[int, int] | None:
    lengths = data.train.lengths
    if lengths is None:
        return None
    usual = int(np.ceil(np.percentile(lengths.numpy(), 95)))
    _, texts = parts_of(data.preprocessor)
    assert texts is not None
    return usual, texts.max_length


def _fast_in_bf16(name: str) -> bool:
    if training_device(name).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return FAST_IN_BF16 in cpu_flags()
