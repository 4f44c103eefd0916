"""The diffusion transformer of the benchmarks, as a PyTorch user would write it.

Same network as the Rust `Dit`: adaLN-zero blocks, a class table with a null
class, sin-cos positions, and time embeddings of t and of h = t - r.
Shapes: B batch, C channels, S side, N tokens, D width.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Size:
    """One benchmark size."""

    channels: int
    side: int
    patch: int
    width: int
    depth: int
    heads: int
    classes: int
    batch: int


SIZES = {
    "digits": Size(1, 8, 2, 96, 4, 4, 10, 128),
    "s4": Size(4, 32, 4, 384, 12, 6, 1000, 32),
}

FREQUENCIES = 256
MAX_PERIOD = 10_000.0


def sinusoid(t):
    """Times (B,) to cosines then sines (B, FREQUENCIES); t is not rescaled."""
    half = FREQUENCIES // 2
    exponent = torch.arange(half, dtype=t.dtype, device=t.device) / half
    angle = t[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def grid_positions(cells, width):
    """Fixed sin-cos positions (1, cells * cells, width): half the width per axis."""
    quarter = width // 4
    omega = MAX_PERIOD ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(cells, dtype=torch.float64)[:, None] * omega
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    column = axis.repeat(cells, 1)
    row = axis.repeat_interleave(cells, dim=0)
    return torch.cat([column, row], dim=1).float()[None]


class TimeEmbedding(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.enter = nn.Linear(FREQUENCIES, width)
        self.leave = nn.Linear(width, width)
        for layer in (self.enter, self.leave):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, t):
        return self.leave(F.silu(self.enter(sinusoid(t))))


def norm(x):
    """LayerNorm without gain or bias."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def xavier(layer):
    nn.init.xavier_uniform_(layer.weight.view(layer.weight.shape[0], -1))
    nn.init.zeros_(layer.bias)
    return layer


def zero(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = xavier(nn.Linear(width, 3 * width))
        self.project = xavier(nn.Linear(width, width))
        self.widen = xavier(nn.Linear(width, 4 * width))
        self.narrow = xavier(nn.Linear(4 * width, width))
        self.modulation = zero(nn.Linear(width, 6 * width))

    def attend(self, x):
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.project(mixed.transpose(1, 2).reshape(b, n, d))

    def feed(self, x):
        return self.narrow(F.gelu(self.widen(x), approximate="tanh"))

    def forward(self, x, condition):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(
            condition
        ).chunk(6, dim=1)
        x = x + gate_a[:, None] * self.attend(modulate(norm(x), shift_a, scale_a))
        return x + gate_m[:, None] * self.feed(modulate(norm(x), shift_m, scale_m))


class Dit(nn.Module):
    """u(z, r, t | label); the label `classes` is the null class."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.enter = xavier(
            nn.Conv2d(size.channels, size.width, size.patch, stride=size.patch)
        )
        self.at_t = TimeEmbedding(size.width)
        self.at_h = TimeEmbedding(size.width)
        self.labels = nn.Embedding(size.classes + 1, size.width)
        nn.init.normal_(self.labels.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads) for _ in range(size.depth)
        )
        self.modulation = zero(nn.Linear(size.width, 2 * size.width))
        self.leave = zero(nn.Linear(size.width, size.patch**2 * size.channels))
        self.register_buffer(
            "positions", grid_positions(size.side // size.patch, size.width)
        )

    def forward(self, z, r, t, label):
        x = self.enter(z).flatten(2).transpose(1, 2) + self.positions
        condition = F.silu(self.at_t(t) + self.at_h(t - r) + self.labels(label))
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(condition).chunk(2, dim=1)
        return self.unpatchify(self.leave(modulate(norm(x), shift, scale)))

    def unpatchify(self, x):
        """Tokens (B, N, patch * patch * C) to an image (B, C, S, S)."""
        size = self.size
        cells = size.side // size.patch
        x = x.view(-1, cells, cells, size.patch, size.patch, size.channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(
            -1, size.channels, size.side, size.side
        )
