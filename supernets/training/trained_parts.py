"""Of large parameters, the parts that a training moves, in their place before its optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from supernets.families.super_network import SuperNetwork
from supernets.layers.elastic import ElasticEmbedding, Quantizable

LEAST_ROWS = 1024
"""Tables of fewer rows are trained whole."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for every weight."""


class ActiveParts:
    """Replaces the weights of a network's layers by copies of their active parts.

    So the optimizer, the norm of the gradient and the gradients themselves are no larger than the
    sub-network. While it lasts, that sub-network alone can be used.
    """

    def __init__(self, network: SuperNetwork) -> None:
        self._whole: list[tuple[Quantizable, str, nn.Parameter]] = []
        for described in network.layers:
            layer = network.quantizable(described.name)
            for name, part in _parts(layer):
                whole = getattr(layer, name)
                if part.shape != whole.shape:
                    self._whole.append((layer, name, whole))
                    setattr(layer, name, nn.Parameter(part.detach().clone()))

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the layers their whole weights again; the same sub-network has to be active."""
        for layer, name, whole in self._whole:
            trained = getattr(layer, name)
            setattr(layer, name, whole)
            dict(_parts(layer))[name].copy_(trained)


def _parts(layer: Quantizable) -> Iterator[tuple[str, Tensor]]:
    """Weight and bias at the active size, as views."""
    for name, part in zip(("weight", "bias"), layer.active_parameters(), strict=True):
        if part is not None:
            yield name, part


class UsedRows:
    """Trains those rows of a table `(rows, width)` that batches have used so far.

    The others would have moments of zero, and so are where AdamW leaves them but for its decay.
    `trained` is a parameter `(used, width)` of its own, in the optimizer's groups; the table itself
    follows it. rows: their places in the table, in the order in which they came.
    """

    def __init__(self, layer: ElasticEmbedding, optimizer: torch.optim.Optimizer) -> None:
        self._layer, self._optimizer = layer, optimizer
        self._table = layer.get_parameter("weight")
        self.rows = torch.empty(0, dtype=torch.int64, device=self._table.device)
        self._place = torch.full((len(self._table),), -1, device=self._table.device)
        self.trained = self._table
        layer.sparse = True  # gradients of rows, in place of tables that are all but zero

    @classmethod
    def of(cls, network: SuperNetwork, optimizer: torch.optim.Optimizer) -> list[UsedRows]:
        """Those of a network's large tables."""
        tables = (m for m in network.modules() if isinstance(m, ElasticEmbedding))
        return [cls(t, optimizer) for t in tables if t.num_embeddings >= LEAST_ROWS]

    def collect(self) -> None:
        """Take over the gradient of the table."""
        gradient, self._table.grad = self._table.grad, None
        self.trained.grad = None
        if gradient is None:
            return
        gradient = gradient.coalesce()
        numbers = gradient.indices()[0]
        self.use(numbers)
        own = torch.zeros_like(self.trained)
        self.trained.grad = own.index_copy_(0, self._place[numbers], gradient.values())

    @torch.no_grad()
    def write(self) -> None:
        """Let the table follow a step of the optimizer."""
        self._table.index_copy_(0, self.rows, self.trained)

    @torch.no_grad()
    def use(self, numbers: Tensor) -> None:
        """Train these rows `(n,)` too, from now on."""
        numbers, count = numbers[self._place[numbers] < 0], len(self.rows)
        if not len(numbers):
            return
        self._place[numbers] = torch.arange(count, count + len(numbers), device=numbers.device)
        self.rows = torch.cat([self.rows, numbers])
        before, self.trained = self.trained, nn.Parameter(self._table[self.rows])
        for group in self._optimizer.param_groups:
            group["params"] = [self.trained if p is before else p for p in group["params"]]
        state = self._optimizer.state.pop(before, {})
        for name in MOMENTS:
            if name in state:
                new = self.trained.new_zeros(len(numbers), self.trained.shape[1])
                state[name] = torch.cat([state[name], new])
        if state:
            self._optimizer.state[self.trained] = state

    def whole(self, moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An optimizer's state of the used rows as one of the whole table."""
        kept = dict(moments)
        for name in MOMENTS:
            kept[name] = torch.zeros_like(self._table).index_copy_(0, self.rows, moments[name])
        return kept

    def part(self, moments: Mapping[str, Tensor], rows: Tensor | None) -> dict[str, Tensor]:
        """Use these rows, and take their state out of the whole table's; None: those that moved, as
        processes that share a training do not write which were used."""
        if rows is None:
            rows = moments["exp_avg_sq"].any(dim=1).nonzero()[:, 0]
        self.use(rows.to(self.rows.device))
        return {k: t[rows.to(t.device)] if k in MOMENTS else t for k, t in moments.items()}

    def end(self) -> None:
        """Let the table be trained otherwise."""
        self._layer.sparse = False
