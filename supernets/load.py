"""Where data and super-network come from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from supernets import digits
from supernets.base import CONFIG_FILE, WEIGHTS_FILE, SuperNetwork
from supernets.data import TaskData
from supernets.settings import DataSettings, ModelSettings, VitConfig
from supernets.vit import ViTSuperNetwork

INITIAL_STD = 0.02


def initialise(network: SuperNetwork, generator: torch.Generator) -> None:
    """Draw all weights anew: truncated normal, biases zero, norms one."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            module = network.get_submodule(name.rpartition(".")[0])
            if isinstance(module, nn.LayerNorm):
                parameter.fill_(float(name.endswith("weight")))
            elif name.endswith("bias"):
                parameter.zero_()
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.trunc_normal_(parameter, std=INITIAL_STD, generator=generator)


def load_data(settings: DataSettings, model: ModelSettings) -> TaskData:
    """Open the data set in the form the model takes."""
    if settings.name == "digits":
        assert model.vit is not None
        return digits.load(model.vit.image_size, settings.augment)
    raise ValueError(f"data.name: {settings.name!r} is not a known data set; built in are: digits")


@dataclass(frozen=True)
class Start:
    """A super-network to start from, and what the user should know about how it was made."""

    network: SuperNetwork
    notes: tuple[str, ...] = ()


def load_supernet(settings: ModelSettings, data: TaskData, seed: int) -> Start:
    """Build the super-network from the checkpoint, or with random weights at the given sizes."""
    assert settings.vit is not None
    network = ViTSuperNetwork(settings.vit, len(data.label_names))
    initialise(network, torch.Generator().manual_seed(seed))
    return Start(network)


def load_saved(folder: Path) -> SuperNetwork:
    """Read back what `SuperNetwork.save` wrote."""
    description = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    config = VitConfig.model_validate(description["config"])
    network = ViTSuperNetwork(config, description["num_labels"])
    network.block_order = description["block_order"]
    network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    network.activate({})
    return network.eval()
