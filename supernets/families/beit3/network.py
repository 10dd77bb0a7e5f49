"""BEiT-3 of images and texts about them, plain and as a super-network.

B batch, I tokens of images, T tokens of texts, S all of them, D embed_dim
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.families.beit3.blocks import ElasticMultiwayBlock, MultiwayBlock
from supernets.families.beit3.config import Beit3Config
from supernets.families.beit3.readers import ElasticReader, JointReader, Pooler, new_reader
from supernets.families.image_transformer import ImageSuperNetwork, ImageTransformer
from supernets.families.super_network import SuperNetwork
from supernets.families.texts.transformer import DEFAULT_TOKENS, example_length
from supernets.layers.attention import neuron_units
from supernets.layers.coupled_units import Part, Units, read_by, written_by
from supernets.layers.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear
from supernets.space.cost import Cost, Counts, Extent, Values, collect
from supernets.space.space import RESOLUTION, TEXT_LENGTH, Architecture, Genomes, SearchSpace

Reader = Pooler | JointReader


class Multiway(ImageTransformer):
    """Classifier of texts about one image or two; blocks keep the index they had.

    reader: from the tokens that are read to a vector a sample. hidden: the layer before the head.
    """

    config: Beit3Config

    def __init__(
        self,
        config: Beit3Config,
        patch_embed: nn.Linear,
        cls_token: Tensor,
        pos_embed: Tensor,
        word: nn.Embedding,
        place: nn.Embedding,
        blocks: Mapping[int, MultiwayBlock],
        reader: Reader,
        hidden: nn.Linear,
        hidden_norm: nn.LayerNorm,
        head: nn.Linear,
    ) -> None:
        super().__init__(config, patch_embed, cls_token, pos_embed, None, {}, None, head)
        self.word, self.place = word, place
        self.blocks = nn.ModuleDict({str(index): block for index, block in blocks.items()})
        self.reader, self.hidden, self.hidden_norm = reader, hidden, hidden_norm

    def forward(  # type: ignore[override] # texts are read, too
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Classify texts `(B, T)` about images `(B, C, H, W)`, or about two `(B, 2, C, H, W)`.

        Logits `(B, classes)` come out.
        """
        logits: Tensor = self.head(self.features(pixel_values, input_ids, attention_mask))
        return logits

    def features(  # type: ignore[override] # texts are read, too
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """What the classifier reads of each sample, `(B, 2 * D)`."""
        if self.config.asks == "pair":
            pixel_values = torch.cat([pixel_values[:, 0], pixel_values[:, 1]])
            input_ids, attention_mask = _twice(input_ids), _twice(attention_mask)
        image_BID = self._embed(pixel_values)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        text_BTD = self.word(input_ids) + self.place(places)
        # Computed from the tokens, so that a graph serves every resolution.
        there_BI = image_BID[..., 0].square() >= 0
        mask_B11S = torch.cat([there_BI, attention_mask > 0], dim=1)[:, None, None]
        for block in self.path():
            image_BID, text_BTD = block(image_BID, text_BTD, mask_B11S)
        read = self.reader(image_BID[:, 0], text_BTD[:, 0])
        return F.gelu(self.hidden_norm(self.hidden(read)))


def _twice(rows_BT: Tensor) -> Tensor:
    """All texts beside their first images, then beside their second ones."""
    return torch.cat([rows_BT, rows_BT])


class MultiwaySuperNetwork(ImageSuperNetwork, Multiway):
    """BEiT-3 with elastic depth, heads and neurons of either half, resolution and text length."""

    config: Beit3Config
    word: ElasticEmbedding
    place: ElasticEmbedding
    reader: ElasticReader
    hidden: ElasticLinear
    hidden_norm: ElasticLayerNorm

    def __init__(self, config: Beit3Config, num_labels: int) -> None:
        width, tokens = config.embed_dim, config.grid**2 + config.prefix
        reader = new_reader(config)
        Multiway.__init__(
            self,
            config,
            ElasticLinear(config.channels * config.patch_size**2, width),
            torch.zeros(1, config.prefix, width),
            torch.zeros(1, tokens, width),
            ElasticEmbedding(config.vocab_size, width),
            ElasticEmbedding(config.max_positions, width),
            {index: ElasticMultiwayBlock(config, index) for index in range(config.depth)},
            reader,
            ElasticLinear(reader.width, 2 * width),
            ElasticLayerNorm(2 * width, config.layer_norm_eps),
            ElasticLinear(2 * width, num_labels),
        )
        self.active_size, self.active_length = config.image_size, config.max_positions
        self.start(config, num_labels)
        last = config.depth - 1
        self.block_order["depth"] = [last, *range(last)]
        self.activate({})

    def block(self, index: int) -> ElasticMultiwayBlock:
        """One block by its index."""
        block = self.blocks[str(index)]
        assert isinstance(block, ElasticMultiwayBlock)
        return block

    def indispensable(self, block: str) -> bool:
        """The last block alone ends with the tokens that are read."""
        return block == self.block_path("depth", self.config.depth - 1)

    def activate(self, architecture: Architecture) -> None:
        """See `SuperNetwork`; keys and values have every head that is asked for."""
        super().activate(architecture)
        for index in range(self.config.depth):
            self.block(index).share_heads()

    @property
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Batch and sequence length vary."""
        axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
        return {"pixel_values": {0: "batch"}, **axes, "logits": {0: "batch"}}

    def free_axes(self, space: SearchSpace) -> dict[str, dict[int, str]]:
        """Height and width, if the resolution is elastic."""
        first = 3 if self.config.asks == "pair" else 2
        axes = {first: "height", first + 1: "width"}
        return {"pixel_values": axes} if RESOLUTION in space.column else {}

    def example_inputs(
        self, batch_size: int = 2, sequence_length: int | None = None
    ) -> dict[str, Tensor]:
        """Black images and texts of the first vocabulary entry, nothing masked.

        Raises ValueError for more tokens than the network has positions.
        """
        length = example_length(self.config.max_positions, sequence_length)
        length = min(length, self.active_length)
        images = (2,) if self.config.asks == "pair" else ()
        size = self.active_size
        return {
            "pixel_values": torch.zeros(batch_size, *images, self.config.channels, size, size),
            "input_ids": torch.zeros(batch_size, length, dtype=torch.int64),
            "attention_mask": torch.ones(batch_size, length, dtype=torch.int64),
        }

    def adapt_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Shrink images to the active resolution."""
        pixels = inputs["pixel_values"]
        images = {"pixel_values": pixels.flatten(0, -4)}
        shrunk = super().adapt_inputs(images)["pixel_values"]
        texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return {"pixel_values": shrunk.unflatten(0, pixels.shape[:-3]), **texts}

    @property
    def norms(self) -> list[ElasticLayerNorm]:
        """The norms outside the blocks."""
        return [*self.reader.norms, self.hidden_norm]

    def extract(self) -> Multiway:
        """Copy the active sub-network into a plain one, in evaluation mode."""
        prefix, positions = self.prefix(), self.positions()
        assert prefix is not None
        assert positions is not None
        return Multiway(
            self.config,
            self.patch_embed.extract(),
            prefix.detach().clone(),
            positions.detach().clone(),
            self.word.extract(),
            self.place.extract(),
            {index: self.block(index).extract() for index in self.active_blocks},
            self.reader.extract(),
            self.hidden.extract(),
            self.hidden_norm.extract(),
            self.head.extract(),
        ).eval()

    def aligned(self, own: Any, full: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """All tokens of images, and those of texts as long that are no padding."""
        real = inputs["attention_mask"] > 0
        real = _twice(real) if self.config.asks == "pair" else real
        image, taught = super().aligned(own[0], full[0], inputs)
        if own[1].shape != full[1].shape:  # a cut text has other tokens in its places
            return image, taught
        return torch.cat([image, own[1][real]]), torch.cat([taught, full[1][real]])

    def units(self) -> list[Units]:
        """Heads of every block, which both halves have in common, and neurons of each half."""
        found = []
        for index in range(self.config.depth):
            path, block = f"blocks.{index}", self.block(index)
            found.append(_head_units(path, block, self.config.num_heads))
            found += [neuron_units(f"{path}.{name}", way.mlp) for name, way in block.ways]
        return found

    def branch_outputs(self, block: str) -> list[Tensor]:
        """Weights and biases that end attention and feed-forward parts."""
        module = self.get_submodule(block)
        assert isinstance(module, ElasticMultiwayBlock)
        ends = [layer for _, way in module.ways for layer in (way.attention.out, way.mlp.fc2)]
        return [tensor for layer in ends for tensor in layer.parameters()]

    def cost(
        self, space: SearchSpace, genomes: Genomes, sequence_length: int | None = None
    ) -> Cost:
        """Sizes, parameters and MACs (at 128 tokens of text if not told) of `genomes`."""
        values, config = Values(space, genomes), self.config
        once = np.ones(len(values), dtype=np.int64)
        always, width = once > 0, once * config.embed_dim
        images = once * (2 if config.asks == "pair" else 1)
        patches = (values.sizes(RESOLUTION, config.image_size) // config.patch_size) ** 2
        texts = once * (sequence_length or min(DEFAULT_TOKENS, config.max_positions))
        texts = np.minimum(texts, values.sizes(TEXT_LENGTH, config.max_positions))
        tokens = {"image": patches + config.prefix, "text": texts}
        extents, macs, others, unused = self._block_costs(values, tokens, images)
        outside = {"patch_embed": patches * images}
        for layer in self.layers:
            if layer.name not in extents:
                sizes = once * layer.shape[1], once * layer.shape[0]
                extents[layer.name] = Extent(*sizes, outside.get(layer.name, once), always)
        placed, most = width * tokens["image"], config.embed_dim * self._tokens
        others = others + placed + config.embed_dim * config.prefix
        others = others + sum(t.numel() for norm in self.norms for t in norm.parameters())
        return collect(self.layers, extents, values, others, macs, unused + most - placed)

    def _block_costs(
        self, values: Values, tokens: Mapping[str, Counts], images: Counts
    ) -> tuple[dict[str, Extent], Counts, Counts, Counts]:
        """Extents of all blocks' layers, MACs of attention, parameters of norms, and of those parts
        of them that are not used; `(n,)` each. tokens: of each half. images: of a sample."""
        config, hd = self.config, self.config.head_dim
        extents: dict[str, Extent] = {}
        macs, norms, unused = (np.zeros(len(values), np.int64) for _ in range(3))
        width, together = np.full_like(macs, config.embed_dim), sum(tokens.values())
        depth = values.sizes("depth", config.depth)
        for index in range(config.depth):
            path, block = f"blocks.{index}", self.block(index)
            kept = depth >= self.rank("depth", index)
            heads = {
                name: values.sizes(f"{path}.{name}.attention.num_heads", config.num_heads)
                for name, _ in block.ways
            }
            most = np.maximum.reduce(list(heads.values())) * hd
            for name, count in tokens.items():
                looked_at = Extent(width, most, count * images, kept)
                at = f"{path}.{name}.attention"
                extents |= {f"{at}.key": looked_at, f"{at}.value": looked_at}
            norms += 2 * width * len(block.norms) * kept
            for name, _ in block.ways:
                at, inner = f"{path}.{name}", heads[name] * hd
                uses = (tokens[name] if block.read is None else np.ones_like(macs)) * images
                hidden = values.sizes(f"{at}.mlp.hidden_dim", config.hidden_dim)
                extents |= {
                    f"{at}.attention.query": Extent(width, inner, uses, kept),
                    f"{at}.attention.out": Extent(inner, width, uses, kept),
                    f"{at}.mlp.fc1": Extent(width, hidden, uses, kept),
                    f"{at}.mlp.fc2": Extent(hidden, width, uses, kept),
                }
                macs += 2 * uses * together * inner * kept
                norms += 2 * (inner + hidden) * kept
                unused += 2 * (config.num_heads * hd - inner + config.hidden_dim - hidden) * kept
        return extents, macs, norms, unused


def _head_units(path: str, block: ElasticMultiwayBlock, count: int) -> Units:
    """Heads of a block: a head of the one half looks at the same head of the other.

    Which come first is decided for both halves, how many there are for each.
    """
    parts = written_by(*block.keys_and_values)
    genes = {name: f"{path}.{name}.attention.num_heads" for name, _ in block.ways}
    for name, way in block.ways:
        attention = way.attention
        own = [*written_by(attention.query, attention.norm), read_by(attention.out)]
        parts += [Part(part.tensor, part.axis, part.leaves, genes[name]) for part in own]
    return Units(genes["image"], count, tuple(parts))


def network(config: Beit3Config, num_labels: int) -> SuperNetwork:
    """The super-network for what is asked; with images alone it is one of image patches."""
    if config.asks == "image":
        return ImageSuperNetwork(config, num_labels)
    return MultiwaySuperNetwork(config, num_labels)
