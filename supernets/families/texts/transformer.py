"""A transformer of tokens of texts, plain and as a super-network; its sizes say which.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.families.texts.block import ElasticTextBlock, TextBlock
from supernets.families.texts.embeddings import ElasticTextEmbeddings, TextEmbeddings
from supernets.families.texts.kept_pieces import KeptPieces
from supernets.families.texts.sizes import TextTransformerSizes
from supernets.families.texts.surroundings import Surroundings, place_rows
from supernets.families.transformer import TransformerSuperNetwork, reading
from supernets.layers.activations import ACTIVATIONS
from supernets.layers.composed import extracted
from supernets.layers.disentangled import RelativePlaces
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Counts, Extent, Values, collect
from supernets.space.space import VOCABULARY, Genomes, SearchSpace
from supernets.tasks.embedding import Embedding, UnitLength
from supernets.tasks.task import Reading

DEFAULT_TOKENS = 128
"""Sequence length where none is given: that at which the papers state BERT's MACs."""


def example_length(most: int, wanted: int | None) -> int:
    """Tokens of a text that stands for others. Raises ValueError for more than there can be."""
    length = wanted or min(DEFAULT_TOKENS, most)
    if length > most:
        raise ValueError(
            f"target.sequence_length: {length} tokens, but the model has {most} positions; "
            f"give at most {most}"
        )
    return length


class TextTransformer(nn.Module):
    """Classifier of texts; blocks keep the index they had in the network they are of.

    What `config` does without is None. places: vectors of relative places. reads: what the head is
    given; the pooler, where the head is given something else than it puts out, is an identity.
    """

    def __init__(
        self,
        config: TextTransformerSizes,
        embeddings: TextEmbeddings,
        places: RelativePlaces | None,
        blocks: Mapping[int, TextBlock],
        norm: nn.LayerNorm | None,
        pooler: nn.Module,
        pooler_norm: nn.LayerNorm | None,
        head: nn.Module,
        reads: Reading = "class",
    ) -> None:
        super().__init__()
        self.config, self.embeddings, self.places = config, embeddings, places
        self.register_buffer("row_of_distance", place_rows(config), persistent=False)
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.norm, self.pooler, self.activation = norm, pooler, ACTIVATIONS[config.pooled]()
        self.pooler_norm, self.head = pooler_norm, head
        self.reads: Reading = reads
        if isinstance(pooler, nn.Identity):
            self.activation = nn.Identity()

    row_of_distance: Tensor | None

    def path(self) -> Sequence[nn.Module]:
        """The blocks to run, in order."""
        return list(self.blocks.values())

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Texts of ids `(B, T)` in, logits `(B, classes)` out, or of an embedder vectors `(B, D)`.

        The graph of an embedder also puts out the tokens, of which those that are read.
        """
        if torch.compiler.is_exporting() and self.reads in ("mean", "first"):
            tokens_BTD = self.encode(input_ids, attention_mask, token_type_ids)
            tokens_BTD = tokens_BTD[:, :1] if self.reads == "first" else tokens_BTD
            embedding = self.head(self._pooled(tokens_BTD, attention_mask))
            return embedding, tokens_BTD  # type: ignore[return-value] # of the graph alone
        logits: Tensor = self.head(self.features(input_ids, attention_mask, token_type_ids))
        return logits

    def features(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """What the head reads of each text `(B, D)`, or of each token `(B, T, D)`."""
        read = 1 if self.pooling == "first" else None
        x_BTD = self.encode(input_ids, attention_mask, token_type_ids, read)
        return self._pooled(x_BTD, attention_mask)

    def _pooled(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "first":
            x = x[:, 0]
        elif self.pooling == "mean":
            real_BT1 = attention_mask[:, :, None]
            x = (x * real_BT1).sum(dim=1) / real_BT1.sum(dim=1)
        pooled: Tensor = self.activation(self.pooler(x))
        return pooled if self.pooler_norm is None else self.pooler_norm(pooled)

    @property
    def pooling(self) -> str:
        """Which tokens are read: the first, the mean of all, or every one (`tokens`)."""
        return self.config.pooling if self.reads == "class" else self.reads

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        read: int | None = None,
    ) -> Tensor:
        """What the network makes of all tokens, or at least of the first `read`, `(B, T, D)`."""
        x_BTD: Tensor = self.embeddings(input_ids, token_type_ids)
        blocks = [block for block in self.path() if isinstance(block, TextBlock)]
        around = Surroundings(self.config, attention_mask, self.row_of_distance)
        pairs = None if self.places is None else around.pairs(self.places())
        masks = {block.window: around.mask(block.window) for block in blocks}
        turns = {block.theta: around.turns(block.theta) for block in blocks}
        for block, count in reading(blocks, read):
            mask, turn = masks[block.window], turns[block.theta]
            x_BTD = block(x_BTD, mask, count, around.rows_TT, turn, pairs)
        return x_BTD if self.norm is None else self.norm(x_BTD[:, :read])


class TextSuperNetwork(TransformerSuperNetwork, TextTransformer):
    """A text transformer with elastic depth, heads and neurons."""

    config: TextTransformerSizes
    embeddings: ElasticTextEmbeddings
    norm: ElasticLayerNorm | None
    pooler_norm: ElasticLayerNorm | None
    head: ElasticLinear | UnitLength
    kept_pieces: KeptPieces | None = None

    def __init__(self, config: TextTransformerSizes, num_labels: int) -> None:
        width, bias = config.embed_dim, config.has_bias("norm")

        def norm(needed: bool) -> ElasticLayerNorm | None:
            return ElasticLayerNorm(width, config.layer_norm_eps, bias) if needed else None

        TextTransformer.__init__(
            self,
            config,
            ElasticTextEmbeddings(
                config.vocab_size,
                width,
                norm_eps=config.layer_norm_eps,
                norm_bias=bias,
                word_dim=config.word_dim,
                positions=config.position_rows,
                token_types=config.rows.get("token_type_ids", 0),
                padding=config.padding,
            ),
            self._new_places(config),
            {index: ElasticTextBlock(config, index) for index in range(config.depth)},
            norm(config.norm_first),
            ElasticLinear(width, width, config.has_bias("pooler")),
            norm(config.pooled_norm),
            ElasticLinear(width, num_labels),
        )
        self.start(config, num_labels)

    @staticmethod
    def _new_places(config: TextTransformerSizes) -> RelativePlaces | None:
        if not config.relative_span:
            return None
        width, eps = config.embed_dim, config.layer_norm_eps
        norm = ElasticLayerNorm(width, eps) if config.relative_norm else None
        return RelativePlaces(torch.zeros(2 * config.relative_span, width), norm)

    def read(self, what: Reading) -> None:
        """Give the head something else; every token passes the pooler where that has a norm."""
        self.reads = what
        if what != "class" and not (what == "tokens" and self.pooler_norm is not None):
            self.pooler, self.activation, self.pooler_norm = nn.Identity(), nn.Identity(), None
        if what in ("mean", "first"):
            self.head = UnitLength(self.config.embed_dim)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Beside its vectors an embedder's graph puts out what sentence-transformers reads."""
        return Embedding.outputs if self.reads in ("mean", "first") else super().output_names

    def extract(self) -> TextTransformer:
        """Copy the active sub-network into a plain network, in evaluation mode."""
        return TextTransformer(
            self.config,
            self.embeddings.extract(),
            extracted(self.places),
            {index: self.block(index).extract() for index in self.active_blocks},
            extracted(self.norm),
            extracted(self.pooler),
            extracted(self.pooler_norm),
            extracted(self.head),
            self.reads,
        ).eval()

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and sequence length vary."""
        axes = {name: {0: "batch", 1: "sequence"} for name in self.config.inputs}
        return {**axes, "logits": {0: "batch"}}

    @property
    def remembered(self) -> dict[str, Any]:
        """In which order pieces are kept, where that is not the tokenizer's."""
        pieces = self.kept_pieces
        own = {} if pieces is None else {"pieces": pieces.to_json()}
        return super().remembered | own

    def remember(self, kept: Mapping[str, Any]) -> None:
        """Keep pieces in the order of before."""
        super().remember(kept)
        if "pieces" in kept:
            self.keep_pieces(KeptPieces.from_json(kept["pieces"]))

    def keep_pieces(self, pieces: KeptPieces) -> None:
        """Keep these pieces first in smaller vocabularies."""
        self.kept_pieces = pieces
        self.embeddings.word.use_first(torch.tensor(pieces.order, device=self.device))

    def use_pieces(self, size: int) -> None:
        """Take texts that are written in the first so many pieces."""
        self.embeddings.word.active_out = size

    def adapt_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Ids in the active vocabulary; texts must be written in its pieces already."""
        word = self.embeddings.word
        if word.is_whole:
            return dict(inputs)
        ids = word.place[inputs["input_ids"]]
        assert int(ids.max()) < word.active_out, "texts are written in pieces that are left out"
        return {**inputs, "input_ids": ids}

    def _tokens(self, pieces: int, length: int) -> int:
        """How long a text of so many tokens is in a smaller vocabulary."""
        stretch = 1.0 if self.kept_pieces is None else self.kept_pieces.stretch.get(pieces, 1.0)
        return max(length, min(self.config.max_positions, round(length * stretch)))

    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Texts of the first vocabulary entry, nothing masked, longer in a smaller vocabulary.

        Raises ValueError for more tokens than the network has positions.
        """
        wanted = example_length(self.config.max_positions, sequence_length)
        shape = (batch_size, self._tokens(self.embeddings.word.active_out, wanted))
        return {
            name: torch.full(shape, int(name == "attention_mask")) for name in self.config.inputs
        }

    def aligned(
        self, own: Tensor, full: Tensor, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """All tokens that are no padding."""
        real = inputs["attention_mask"] > 0
        return own[real], full[real]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, parameters and MACs (at 128 tokens if not told) of `genomes` `(n, n_genes)`."""
        values, config = Values(space, genomes), self.config
        width = np.full(len(values), config.embed_dim, dtype=np.int64)
        once, always = np.ones_like(width), np.ones(len(values), dtype=bool)
        pieces = values.sizes(VOCABULARY, config.vocab_size)
        unique, which = np.unique(pieces, return_inverse=True)
        length = sequence_length or DEFAULT_TOKENS
        tokens = np.array([self._tokens(int(size), length) for size in unique])[which]
        read = once if self.pooling == "first" else tokens
        everywhere = {"embeddings.projection"}
        if self.pooling == "tokens":
            everywhere |= {"pooler", "head"}
        extents, macs = self.block_costs(values, width, [tokens] * config.depth, read)
        for layer in self.layers:
            if layer.name not in extents:
                uses = tokens if layer.name in everywhere else once
                rows = pieces if layer.name == "embeddings.word" else once * layer.shape[0]
                extents[layer.name] = Extent(once * layer.shape[1], rows, uses, always)
        within, unused = self.inner_parameters(values)
        return collect(self.layers, extents, values, within + self._others(values), macs, unused)

    def place_costs(
        self,
        index: int,
        embed_dim: Counts,
        inner: Counts,
        tokens: Counts,
        queries: Counts,
        kept: NDArray[np.bool_],
    ) -> tuple[dict[str, Extent], Counts]:
        """Projections of relative places, and scores against them."""
        part, macs = self.block(index).attention.disentangled, np.zeros_like(tokens)
        if part is None:
            return {}, macs
        rows = np.full_like(tokens, 2 * self.config.relative_span)
        path = f"blocks.{index}.attention.disentangled"
        layers = {f"{path}.{name}": Extent(embed_dim, inner, rows, kept) for name in part.layers}
        for name in part.layers:
            macs += {"key": queries, "query": tokens}[name] * rows * inner * kept
        return layers, macs

    def _others(self, values: Values) -> Counts:
        """Parameters of all norms, and of relative places, `(n,)`."""
        modules = (self.norm, self.pooler_norm, self.places)
        outside = [self.embeddings.norm, *(module for module in modules if module is not None)]
        count = np.full(len(values), _parameters(outside), np.int64)
        depth = values.sizes("depth", self.config.depth)
        for index in range(self.config.depth):
            kept = depth >= self.rank("depth", index)
            count += _parameters(self.block(index).norms) * kept
        return count


def _parameters(modules: Iterable[nn.Module]) -> int:
    return sum(tensor.numel() for module in modules for tensor in module.parameters())
