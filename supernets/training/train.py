"""Training of one network, resumable at every step.

Batches, sub-networks and learning rate follow from the seed and the step number alone, so a
trainer's state is the weights, the optimizer's moments and that number.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from supernets.data.data import Batch, Split, batch_count
from supernets.families.super_network import SuperNetwork
from supernets.metrics.classes import ACCURACY
from supernets.metrics.metric import Quality
from supernets.settings import TrainSettings
from supernets.tasks.predictions import Predictions
from supernets.training.distributed import Ranks
from supernets.training.trained_parts import UsedRows
from supernets.training.waiting import waiting_by_load

Progress = Callable[[int, int, Mapping[str, float]], None]

FEWEST_TIMED = 3
"""Steps after which their mean says how many more fit into a time."""

FULL_RATE_FROM = 0.05
"""Root mean square of weights from which on they learn at the whole rate: about that of MiniLM's,
for which the recipe's rate was found."""

OF_CLASSIFIER = ("head.", "pooler.", "reader.", "hidden.")
"""Layers that are often new or, as MiniLM's pooler, hardly trained: nothing there is lost. Learning
slower, that pooler cost 2 points (1,500 texts, 141 steps)."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""
KEPT_BYTES, KEPT_BLOCK_BYTES = (1 << 31) - 1, 1 << 30
"""Freed memory that stays with the process, and the largest block that does."""


def schedule(step: int, total: int, warmup_fraction: float) -> float:
    """Part of the highest learning rate at a step: linear warm-up, then a cosine down to zero."""
    warmup = round(total * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _epochs(
    split: Split, batch_size: int, seed: int, epoch: int, start: int, device: torch.device
) -> Iterator[Batch]:
    """Epoch after epoch without end. Knows no trainer: a finished one frees its memory at once."""
    while True:
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        yield from split.batches(batch_size, generator=generator, start=start, device=device)
        epoch, start = epoch + 1, 0


def training_device(name: str) -> torch.device:
    """The device of that name. Raises ValueError for a GPU that is not there."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError(
            "device: cuda is asked for, but torch finds no GPU; install a torch built for CUDA, or "
            "use cpu or auto"
        )
    if not available or name == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def keep_freed_memory() -> None:
    """Let the allocator keep freed tensors for the next step, where it is glibc's.

    By default it returns every block over 32 MiB (an embedding table's gradient, a batch's
    activations) to the kernel, which maps and zeroes its pages anew in the next step: a tenth to a
    quarter of a step that polishes a small text network (benchmarks/tuning_cost.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _decays(parameter: Tensor) -> bool:
    """Matrices and kernels are decayed; norms, biases and learned tokens `(1, T, D)` are not."""
    return parameter.ndim in (2, 4)


def _share(name: str, parameter: Tensor) -> float:
    """Part of the learning rate that a checkpoint's weights of this size bear: a power of two.

    Adam moves every weight by about the rate, however small it is: 2e-4 a step is 0.4 % of weights
    of 0.05, and 6 % of those of 0.0034 into which a small LayerScale of DINOv2's is folded.
    Relative steps: Shazeer & Stern 2018, "Adafactor", section 8. Norms and biases, of another kind,
    and the classifier have all of it.
    """
    if parameter.ndim < 2 or name.startswith(OF_CLASSIFIER):
        return 1.0
    size = float(parameter.detach().float().square().mean().sqrt())
    return 2.0 ** min(0, round(math.log2(size / FULL_RATE_FROM))) if size else 1.0


def parameter_groups(network: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """What AdamW takes: parameters that are decayed alike and have the same share of the rate."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        share = _share(name, parameter) if settings.relative_rates else 1.0
        groups.setdefault((_decays(parameter), share), []).append(parameter)
    return [
        {
            "params": groups[decays, share],
            "weight_decay": settings.weight_decay if decays else 0.0,
            "share": share,
        }
        for decays, share in sorted(groups, reverse=True)
    ]


def lay_out(network: nn.Module, order: torch.memory_format) -> None:
    """Store kernels in this order of dimensions."""
    for parameter in network.parameters():
        parameter.data = _ordered(parameter.data, order)


def _ordered(tensor: Tensor, order: torch.memory_format) -> Tensor:
    return tensor.contiguous(memory_format=order) if tensor.ndim == 4 else tensor


class NonFiniteLossError(ValueError):
    """Training that has left the numbers; the weights are those before the step that did."""


class Trainer:
    """Trains the full network on the targets."""

    def __init__(
        self,
        network: SuperNetwork,
        split: Split,
        settings: TrainSettings,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        if not len(split):
            raise ValueError("data: the training split is empty; give at least one sample")
        self.network = network.to(training_device(settings.device))
        lay_out(self.network, torch.channels_last)  # ResNets train up to three times as fast
        self.split, self.settings, self.seed = split, settings, seed
        self.task = split.task
        self.loss = self.task.loss(settings, split.labels, network.num_labels)
        self.ranks = ranks or Ranks()
        self.step_number = 0
        self.steps_per_epoch = batch_count(len(split), settings.batch_size)
        self.total_steps = settings.epochs * self.steps_per_epoch
        self.optimizer = torch.optim.AdamW(
            parameter_groups(network, settings), lr=settings.learning_rate, fused=True
        )
        alone = self.ranks.count == 1  # processes add up whole tables
        self._tables = UsedRows.of(network, self.optimizer) if alone else []
        self._batches = self._stream()

    def _stream(self) -> Iterator[Batch]:
        """Batches from the current step on."""
        epoch, start = divmod(self.step_number, self.steps_per_epoch)
        device = self.network.device
        return _epochs(self.split, self.settings.batch_size, self.seed, epoch, start, device)

    def step(self) -> dict[str, float]:
        """Train on the next batch; returns the step's losses by name."""
        rate = schedule(self.step_number, self.total_steps, self.settings.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate * group["share"]
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._backward_parts(next(self._batches))
        self.ranks.add_up_gradients(self.network)
        for table in self._tables:
            table.collect()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.settings.max_grad_norm)
        *known, size = torch.stack([*losses.values(), norm]).tolist()  # a GPU is waited for once
        values = dict(zip(losses, known, strict=True))
        self._require_finite({**values, "norm of the gradient": size})
        self.optimizer.step()
        for table in self._tables:
            table.write()
        self.step_number += 1
        return values

    def _require_finite(self, values: Mapping[str, float]) -> None:
        """Stop before a step that would make every weight NaN."""
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise NonFiniteLossError(
                f"training: {', '.join(wrong)} at step {self.step_number + 1} of "
                f"{self.total_steps}; give a smaller learning_rate (now "
                f"{self.settings.learning_rate:g}), fp32 for precision if it is bf16, and look for "
                "inputs that are not finite. Training stopped before this step; checkpoints "
                "written until then are kept"
            )

    def _backward_parts(self, batch: Batch) -> dict[str, Tensor]:
        """Add the gradients of this process's share of a batch; returns the whole batch's losses.

        Parts of different sizes count by their samples, as they would in one piece.
        """
        parts = self.ranks.count * self.settings.accumulate
        mine = batch.parts(parts)[self.ranks.rank :: self.ranks.count]
        losses = torch.zeros(len(self.loss_names), device=self.network.device)
        for part in mine:
            share = len(part.labels) / len(batch.labels)
            if share:
                losses += torch.stack(self.backward(part, share))
        self.ranks.add_up([losses])
        return dict(zip(self.loss_names, losses, strict=True))

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of what `backward` returns."""
        return ("loss",)

    def backward(self, batch: Batch, share: float = 1.0) -> list[Tensor]:
        """Add the gradients of `share` times the losses of a batch; returns those."""
        with self.autocast():
            logits = self.network(**batch.inputs)
        loss = self.hard_loss(logits.float(), batch.labels) * share
        loss.backward()
        return [loss.detach()]

    def autocast(self) -> torch.autocast:
        """Where matrix products are computed in bfloat16, if the settings say so."""
        enabled = self.settings.precision == "bf16"
        return torch.autocast(self.network.device.type, torch.bfloat16, enabled=enabled)

    def hard_loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch on its targets."""
        rows = self.task.rows
        return self.loss(rows(outputs, labels), rows(labels, labels))

    @waiting_by_load()
    def run(
        self,
        progress: Progress | None = None,
        checkpoint: Callable[[Trainer], None] | None = None,
        left_s: Callable[[], float] | None = None,
        room: float = 1.0,
    ) -> None:
        """Train to the end; `checkpoint` is called after every step and decides what to do.

        left_s: seconds in which it has to end: the schedule is cut to the steps that fit, or
        drawn out to them, up to room times the settings' epochs. The network comes back on the
        CPU, all of it active.
        """
        keep_freed_memory()
        self._synchronise()
        self.begin()
        most = max(self.total_steps, round(room * self.settings.epochs * self.steps_per_epoch))
        first, before_s = self.step_number, left_s() if left_s is not None else math.inf
        while self.step_number < self.total_steps:
            losses = self.step()
            if left_s is not None and self.step_number - first >= FEWEST_TIMED:
                self._fit(left_s(), before_s, self.step_number - first, most)
            if progress is not None:
                progress(self.step_number, self.total_steps, losses)
            if checkpoint is not None:
                checkpoint(self)
        for table in self._tables:
            table.end()
        self.finish()
        self.network.activate({})
        lay_out(self.network.eval().cpu(), torch.contiguous_format)

    def begin(self) -> None:
        """What is left to do before the first step."""

    def finish(self) -> None:
        """What is left to do after the last step."""

    def _fit(self, left_s: float, before_s: float, steps: int, most: int) -> None:
        """As many steps, at most `most`, as fit after these have taken what is gone of a time."""
        if math.isfinite(left_s):
            fitting = max(0, int(left_s / max(1e-9, (before_s - left_s) / steps)))
            self.total_steps = min(most, self.step_number + fitting)

    def _synchronise(self) -> None:
        """Start all processes from the leading one's state."""
        if self.ranks.count == 1:
            return
        device = self.network.device
        self.ranks.join(device)
        step = self.ranks.agree(self.step_number, device)
        self.ranks.broadcast(self.network.state_dict().values())
        moments = ("exp_avg", "exp_avg_sq")
        for parameter in self.network.parameters():
            state = self.optimizer.state[parameter]
            if not self.ranks.agree("step" in state, device):
                continue
            if not self.ranks.leads:
                state |= {name: torch.zeros_like(parameter) for name in moments}
                state["step"] = torch.tensor(float(step))
            self.ranks.broadcast(state[name] for name in moments)
        self.step_number = step
        self._batches = self._stream()

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue, as flat tensors for a safetensors file."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tables = self._tables_in_optimizer()
        for index, moments in self.optimizer.state_dict()["state"].items():
            if index in tables:  # whole, for any number of processes to go on from
                moments = tables[index].whole(moments)
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        tensors |= {f"rows.{number}": table.rows for number, table in enumerate(self._tables)}
        tensors["step"] = torch.tensor(self.step_number)
        tensors["total"] = torch.tensor(self.total_steps)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def _tables_in_optimizer(self) -> dict[int, UsedRows]:
        """Number of a parameter in the optimizer's state -> the table of which it is a part."""
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        places = {id(parameter): place for place, parameter in enumerate(trained)}
        return {places[id(table.trained)]: table for table in self._tables}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `state` gave."""
        network: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, _, name = key.partition(".")
            if kind == "network":
                network[name] = tensor
            elif kind == "optimizer":
                index, _, moment = name.partition(".")
                # The fused optimizer walks through memory: moments lie as their kernels do.
                ordered = _ordered(tensor, torch.channels_last)
                moments.setdefault(int(index), {})[moment] = ordered
        self.network.load_state_dict(network)
        for number, (place, table) in enumerate(self._tables_in_optimizer().items()):
            if place in moments:
                moments[place] = table.part(moments[place], tensors.get(f"rows.{number}"))
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step_number = int(tensors["step"])
        self.total_steps = int(tensors.get("total", self.total_steps))
        self._batches = self._stream()


@torch.inference_mode()
def score(
    network: nn.Module, split: Split, metric: Quality = ACCURACY, batch_size: int = 128
) -> float:
    """The metric's value of a network on a split."""
    network.eval()
    device, found = next(network.parameters()).device, Predictions(split.task)
    for batch in split.batches(batch_size, device=device):
        outputs = network(**batch.inputs).float()
        found.add(outputs.cpu().numpy(), batch.labels.cpu().numpy())
    return found.score(metric)
