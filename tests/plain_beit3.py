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


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, eps: float, texts: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            Ways(lambda: nn.Linear(width, width), texts) for _ in range(4)
        )
        self.inner_attn_ln = Ways(lambda: nn.LayerNorm(width, eps), texts)

    def forward(self, x_BTD: Tensor) -> Tensor:
        ways = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (way.A(x_BTD).unflatten(2, (self.heads, -1)) for way in ways)
        scores = torch.einsum("bqnh,bknh->bnqk", q, k) / q.shape[3] ** 0.5
        mixed = torch.einsum("bnqk,bknh->bqnh", scores.softmax(dim=3), v).flatten(2)
        out: Tensor = self.out_proj.A(self.inner_attn_ln.A(mixed))
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

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.self_attn_layer_norm.A(x_BTD))
        out: Tensor = x_BTD + self.ffn.A(self.final_layer_norm.A(x_BTD))
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
    def __init__(self, config: Any, tokens: int, texts: bool) -> None:
        super().__init__()
        width, eps = config.encoder_embed_dim, config.layernorm_eps
        # Both tables begin with two rows that no token has.
        self.embed_positions = Ways(lambda: nn.Embedding(tokens + 2, width), texts)
        sizes = (width, config.encoder_attention_heads, config.encoder_ffn_embed_dim)
        layers = [Layer(*sizes, eps, texts) for _ in range(config.encoder_layers)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.embed_positions.A(torch.arange(x_BTD.shape[1]) + 2)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return x_BTD


class Both(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        texts, width = bool(config.vocab_size), config.encoder_embed_dim
        self.vision_embed = Pictures(config.in_chans, width, config.patch_size)
        if texts:
            self.text_embed = nn.Embedding(config.vocab_size, width)
        tokens = (config.img_size // config.patch_size) ** 2 + 1
        self.encoder = Encoder(config, tokens, texts)


class BEiT3ForImageClassification(PreTrainedModel):
    """Classifier of images; a `vocab_size` of 0 leaves out the half that reads texts."""

    config_class = PlainBeit3Config

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.beit3 = Both(config)
        self.fc_norm = nn.LayerNorm(config.encoder_embed_dim)
        self.head = nn.Linear(config.encoder_embed_dim, config.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor) -> Any:
        tokens = self.beit3.encoder(self.beit3.vision_embed(pixel_values))
        return SimpleNamespace(logits=self.head(self.fc_norm(tokens[:, 1:].mean(dim=1))))


def beit3(**more: Any) -> BEiT3ForImageClassification:
    """A tiny one with random weights."""
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
        "num_labels": 5,
    }
    return BEiT3ForImageClassification(PlainBeit3Config(**{**sizes, **more}))
