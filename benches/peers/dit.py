"""The diffusion transformer of the benchmarks, as a PyTorch user would write it.

Same network as the Rust `Dit`, with the same names of parameters: adaLN-zero blocks,
a class table with a null class, sin-cos positions, and time embeddings of t and of
h = t - r. Shapes: B batch, C channels, S side, N tokens, D width.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

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
        self.mlp = nn.Sequential(
            nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, t):
        return self.mlp(sinusoid(t))


class LabelEmbedding(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.embedding_table.weight, std=0.02)

    def forward(self, label):
        return self.embedding_table(label)


class PatchEmbedding(nn.Module):
    def __init__(self, size):
        super().__init__()
        net = size.network
        self.proj = xavier(
            nn.Conv2d(size.channels, net.width, net.patch, stride=net.patch)
        )

    def forward(self, z):
        # The bias apart: the compiler cannot lower the zero tangent of a convolution's own.
        maps = F.conv2d(z, self.proj.weight, stride=self.proj.stride)
        return maps.flatten(2).transpose(1, 2) + self.proj.bias


def norm(x):
    """LayerNorm without gain or bias."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def xavier(layer):
    nn.init.xavier_uniform_(layer.weight.view(layer.weight.shape[0], -1))
    nn.init.zeros_(layer.bias)
    return layer


def modulation(width, parts):
    """SiLU and a linear layer that starts at zero."""
    layer = nn.Linear(width, parts * width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.SiLU(), layer)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = xavier(nn.Linear(width, 3 * width))
        self.proj = xavier(nn.Linear(width, width))

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, d))


class Perceptron(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = xavier(nn.Linear(width, 4 * width))
        self.fc2 = xavier(nn.Linear(4 * width, width))

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = Perceptron(width)
        self.adaLN_modulation = modulation(width, 6)

    def forward(self, x, condition):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(
            condition
        ).chunk(6, dim=1)
        x = x + gate_a[:, None] * self.attn(modulate(norm(x), shift_a, scale_a))
        return x + gate_m[:, None] * self.mlp(modulate(norm(x), shift_m, scale_m))


class FinalLayer(nn.Module):
    def __init__(self, size):
        super().__init__()
        net = size.network
        self.linear = nn.Linear(net.width, net.patch**2 * size.channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.adaLN_modulation = modulation(net.width, 2)

    def forward(self, x, condition):
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        return self.linear(modulate(norm(x), shift, scale))


class Dit(nn.Module):
    """u(z, r, t | label); the label `classes` is the null class."""

    def __init__(self, size):
        super().__init__()
        self.size, net = size, size.network
        self.x_embedder = PatchEmbedding(size)
        self.t_embedder = TimeEmbedding(net.width)
        self.h_embedder = TimeEmbedding(net.width)
        self.y_embedder = LabelEmbedding(size.classes, net.width)
        self.blocks = nn.ModuleList(
            Block(net.width, net.heads) for _ in range(net.depth)
        )
        self.final_layer = FinalLayer(size)
        positions = grid_positions(size.cells, net.width)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, z, r, t, label):
        x = self.x_embedder(z) + self.positions
        condition = (
            self.t_embedder(t) + self.h_embedder(t - r) + self.y_embedder(label)
        )
        for block in self.blocks:
            x = block(x, condition)
        return self.unpatchify(self.final_layer(x, condition))

    def unpatchify(self, x):
        """Tokens (B, N, patch * patch * C) to an image (B, C, S, S)."""
        size, patch = self.size, self.size.network.patch
        x = x.view(-1, size.cells, size.cells, patch, patch, size.channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(
            -1, size.channels, size.side, size.side
        )
