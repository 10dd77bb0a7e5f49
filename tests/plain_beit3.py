"""BEiT-3 written from the paper (arXiv 2208.10442) for tests, in the published names.

B batch, T tokens, D width, N heads, H head width
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel


class PlainBeit3Config(PretrainedConfig):
    """config.json of a BEiT-3."""

    model_type = "beit3"
    vocab_size = 0


class Ways(nn.Module):
    """A module for tokens of images, and one for those of texts where there are any."""

    def __init__(self, make: Any, texts: bool) -> None:
        super().__init__()
        self.A = make()
        if texts:
            self.B = make()

    def forward(self, x_BTD: Tensor, images: int) -> Tensor:
        """The first `images` tokens are those of images."""
        if images == x_BTD.shape[1]:
            out: Tensor = self.A(x_BTD)
            return out
        return torch.cat([self.A(x_BTD[:, :images]), self.B(x_BTD[:, images:])], dim=1)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, texts: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            Ways(lambda: nn.Linear(width, width), texts) for _ in range(4)
        )
        self.inner_attn_ln = Ways(lambda: nn.LayerNorm(width, eps), texts)

    def forward(self, x_BTD: Tensor, images: int, padding_BT: Tensor) -> Tensor:
        ways = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (way(x_BTD, images).unflatten(2, (self.heads, -1)) for way in ways)
        scores = torch.einsum("bqnh,bknh->bnqk", q, k) / q.shape[3] ** 0.5
        scores = scores.masked_fill(padding_BT[:, None, None], float("-inf"))
        mixed = torch.einsum("bnqk,bknh->bqnh", scores.softmax(dim=3), v).flatten(2)
        out: Tensor = self.out_proj(self.inner_attn_ln(mixed, images), images)
        return out


class Neurons(nn.Module):
    def __init__(self, width: int, neurons: int, eps: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, neurons), nn.Linear(neurons, width)
        self.ffn_layernorm = nn.LayerNorm(neurons, eps)

    def forward(self, x_BTD: Tensor) -> Tensor:
        hidden = self.fc1(x_BTD)
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        out: Tensor = self.fc2(self.ffn_layernorm(hidden))
        return out


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, neurons: int, eps: float, texts: bool) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads, eps, texts)
        self.self_attn_layer_norm = Ways(lambda: nn.LayerNorm(width, eps), texts)
        self.ffn = Ways(lambda: Neurons(width, neurons, eps), texts)
        self.final_layer_norm = Ways(lambda: nn.LayerNorm(width, eps), texts)

    def forward(self, x_BTD: Tensor, images: int, padding_BT: Tensor) -> Tensor:
        normed = self.self_attn_layer_norm(x_BTD, images)
        x_BTD = x_BTD + self.self_attn(normed, images, padding_BT)
        out: Tensor = x_BTD + self.ffn(self.final_layer_norm(x_BTD, images), images)
        return out


class Pictures(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        patches = self.proj(pixels_BCHW).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)


class Encoder(nn.Module):
    def __init__(self, config: Any, tokens: int, texts: bool, norm: bool) -> None:
        super().__init__()
        width, eps = config.encoder_embed_dim, config.layernorm_eps
        # Both tables begin with two rows that no token has.
        places = {"A": nn.Embedding(tokens + 2, width)}
        if texts:
            places["B"] = nn.Embedding(config.max_source_positions, width)
        self.embed_positions = nn.ModuleDict(places)
        sizes = (width, config.encoder_attention_heads, config.encoder_ffn_embed_dim)
        layers = [Layer(*sizes, eps, texts) for _ in range(config.encoder_layers)]
        self.layers = nn.ModuleList(layers)
        if norm:
            self.layer_norm = Ways(lambda: nn.LayerNorm(width, eps), texts)

    def forward(
        self, image_BTD: Tensor, text_BTD: Tensor | None = None, padding_BT: Tensor | None = None
    ) -> Tensor:
        images = image_BTD.shape[1]
        x_BTD = image_BTD + self.embed_positions["A"](torch.arange(images) + 2)
        hidden = torch.zeros(x_BTD.shape[:2], dtype=torch.bool)
        if text_BTD is not None and padding_BT is not None:
            places = self.embed_positions["B"](torch.arange(text_BTD.shape[1]) + 2)
            x_BTD = torch.cat([x_BTD, text_BTD + places], dim=1)
            hidden = torch.cat([hidden, padding_BT], dim=1)
        for layer in self.layers:
            x_BTD = layer(x_BTD, images, hidden)
        if hasattr(self, "layer_norm"):
            x_BTD = self.layer_norm(x_BTD, images)
        out: Tensor = x_BTD
        return out


class Both(nn.Module):
    def __init__(self, config: Any, texts: bool, norm: bool) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.vision_embed = Pictures(config.in_chans, width, config.patch_size)
        if texts:
            self.text_embed = nn.Embedding(config.vocab_size, width)
        tokens = (config.img_size // config.patch_size) ** 2 + 1
        self.encoder = Encoder(config, tokens, texts, norm)

    def read(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """First tokens of an image and of a text."""
        image = self.vision_embed(pixels)
        tokens = self.encoder(image, self.text_embed(ids), mask == 0)
        return tokens[:, 0], tokens[:, image.shape[1]]


class BEiT3ForImageClassification(PreTrainedModel):
    """Classifier of images; a `vocab_size` of 0 leaves out the half that reads texts."""

    config_class = PlainBeit3Config

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.beit3 = Both(config, texts=bool(config.vocab_size), norm=False)
        self.fc_norm = nn.LayerNorm(config.encoder_embed_dim)
        self.head = nn.Linear(config.encoder_embed_dim, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor) -> Any:
        tokens = self.beit3.encoder(self.beit3.vision_embed(pixel_values))
        return SimpleNamespace(logits=self.head(self.fc_norm(tokens[:, 1:].mean(dim=1))))


class FirstToken(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.dense = nn.LayerNorm(width), nn.Linear(width, width)


class BEiT3ForVisualQuestionAnswering(PreTrainedModel):
    """Classifier of questions about an image."""

    config_class = PlainBeit3Config

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.encoder_embed_dim
        self.beit3 = Both(config, texts=True, norm=False)
        self.pooler = FirstToken(width)
        self.head = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.LayerNorm(2 * width),
            nn.GELU(),
            nn.Linear(2 * width, config.num_labels),
        )
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        image, _ = self.beit3.read(pixel_values, input_ids, attention_mask)
        pooled = torch.tanh(self.pooler.dense(self.pooler.norm(image)))
        return SimpleNamespace(logits=self.head(pooled))


class TwoLayers(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(inputs), nn.LayerNorm(hidden)
        self.dense1, self.dense2 = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm2(self.dense1(self.norm1(x)))
        out: Tensor = self.dense2(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2)
        return out


class BEiT3ForVisualReasoning(PreTrainedModel):
    """Classifier of statements about two images."""

    config_class = PlainBeit3Config

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.encoder_embed_dim
        self.beit3 = Both(config, texts=True, norm=True)
        self.head = TwoLayers(4 * width, 2 * width, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Any:
        read = [
            token
            for number in (0, 1)
            for token in self.beit3.read(pixel_values[:, number], input_ids, attention_mask)
        ]
        return SimpleNamespace(logits=self.head(torch.cat(read, dim=1)))


def settings(**more: Any) -> PlainBeit3Config:
    """Of a tiny one."""
    sizes: dict[str, Any] = {
        "img_size": 16,
        "patch_size": 4,
        "in_chans": 3,
        "encoder_embed_dim": 16,
        "encoder_layers": 3,
        "encoder_attention_heads": 4,
        "encoder_ffn_embed_dim": 24,
        "layernorm_eps": 1e-5,
        "vocab_size": 0,
        "max_source_positions": 22,
        "num_labels": 5,
    }
    return PlainBeit3Config(**{**sizes, **more})


def beit3(**more: Any) -> BEiT3ForImageClassification:
    """A tiny classifier of images with random weights."""
    return BEiT3ForImageClassification(settings(**more))


def beit3_questions(**more: Any) -> BEiT3ForVisualQuestionAnswering:
    """The same of questions."""
    return BEiT3ForVisualQuestionAnswering(settings(vocab_size=50, **more))


def beit3_pairs(**more: Any) -> BEiT3ForVisualReasoning:
    """The same of statements about two images."""
    return BEiT3ForVisualReasoning(settings(vocab_size=50, **more))


CLASSES = {
    made.__name__: made
    for made in (
        BEiT3ForImageClassification,
        BEiT3ForVisualQuestionAnswering,
        BEiT3ForVisualReasoning,
    )
}
