"""The U-Net of the benchmarks, as a PyTorch user would write it.

Same network as the Rust `Unet`, with the same names of parameters: DDPM++ with the
resampling filter of NCSN++, a class table with a null class, and the times t and t - r
embedded side by side. Shapes: B batch, C channels, H height, W width, E embedding.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from dit import LabelEmbedding

MAX_PERIOD = 10_000.0
# Gain of the weights that end a residual branch, and of those of queries, keys and values.
SMALL, QUERIES = 1e-5, math.sqrt(0.2)
# Of a sum of two, so that it keeps the variance.
SHARE = math.sqrt(0.5)


class Convolution(nn.Conv2d):
    """Convolution that keeps the size of the picture."""

    def __init__(self, inputs, outputs, side, gain=1.0):
        super().__init__(inputs, outputs, side, padding=side // 2)
        nn.init.xavier_uniform_(self.weight, gain)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        # The compiler cannot lower the zero tangent of a convolution's own bias.
        if torch.compiler.is_compiling():
            maps = F.conv2d(x, self.weight, padding=self.padding)
            return maps + self.bias[:, None, None]
        return super().forward(x)


class Norm(nn.GroupNorm):
    """Group norm with an affine part."""

    def __init__(self, channels):
        super().__init__(min(32, channels // 4), channels, eps=1e-6)

    def forward(self, x):
        # The compiler cannot trace the forward mode of the fused one, and takes it to these pieces itself.
        if torch.compiler.is_compiling():
            grouped = x.reshape(len(x), self.num_groups, -1)
            variance, mean = torch.var_mean(grouped, -1, correction=0, keepdim=True)
            y = ((grouped - mean) * torch.rsqrt(variance + self.eps)).view_as(x)
            return y * self.weight[:, None, None] + self.bias[:, None, None]
        return super().forward(x)


def linear(inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Two convolutions around the embedding, and attention of one head between pixels.

    `resize` is "down" for half the picture, "up" for twice, None to keep it.
    """

    def __init__(self, net, inputs, outputs, resize=None, attention=False):
        super().__init__()
        self.resize, self.attention = resize, attention
        self.norm0 = Norm(inputs)
        self.conv0 = Convolution(inputs, outputs, 3)
        self.affine = linear(4 * net.channels, outputs)
        self.norm1 = Norm(outputs)
        self.conv1 = Convolution(outputs, outputs, 3, SMALL)
        changes = resize or inputs != outputs
        self.skip = Convolution(inputs, outputs, 1) if changes else nn.Identity()
        if attention:
            self.norm2 = Norm(outputs)
            self.qkv = Convolution(outputs, 3 * outputs, 1, QUERIES)
            self.proj = Convolution(outputs, outputs, 1, SMALL)
        if resize:
            taps = torch.tensor(net.filter) / sum(net.filter) * (2 if resize == "up" else 1)
            filter = torch.outer(taps, taps).repeat(inputs, 1, 1, 1)
            self.register_buffer("filter", filter, persistent=False)

    def resampled(self, x):
        if not self.resize:
            return x
        apply = F.conv2d if self.resize == "down" else F.conv_transpose2d
        padding = (self.filter.shape[-1] - 1) // 2
        return apply(x, self.filter, stride=2, padding=padding, groups=x.shape[1])

    def forward(self, x, embedding):
        hidden = self.conv0(self.resampled(F.silu(self.norm0(x))))
        hidden = hidden + self.affine(embedding)[:, :, None, None]
        hidden = self.conv1(F.silu(self.norm1(hidden)))
        x = (hidden + self.skip(self.resampled(x))) * SHARE
        return (x + self.attended(x)) * SHARE if self.attention else x

    def attended(self, x):
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm2(x)).view(b, 3, 1, c, h * w)
        q, k, v = qkv.transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(2, 3).reshape(b, c, h, w))


class Unet(nn.Module):
    """u(z, r, t | label); the label `classes` is the null class."""

    def __init__(self, size):
        super().__init__()
        net = size.network
        half = net.channels * net.noise_ratio // 2
        omega = MAX_PERIOD ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        self.register_buffer("omega", omega.float(), persistent=False)
        self.y_embedder = LabelEmbedding(size.classes, 4 * half)
        self.map_layer0 = linear(4 * half, 4 * net.channels)
        self.map_layer1 = linear(4 * net.channels, 4 * net.channels)
        self.enc, channels = descent(size)
        self.dec = ascent(size, channels)

    def forward(self, z, r, t, label):
        times = torch.cat([self.waves(t), self.waves(t - r)], dim=1)
        embedding = F.silu(self.map_layer0(times + self.y_embedder(label)))
        embedding = F.silu(self.map_layer1(embedding))
        first, *down = self.enc.values()
        *up, (_, last_norm), (_, last) = self.dec.items()
        x = first(z)
        skips = [x]
        for block in down:
            x = block(x, embedding)
            skips.append(x)
        for name, block in up:
            if "_block" in name:
                x = torch.cat([x, skips.pop()], dim=1)
            x = block(x, embedding)
        return last(F.silu(last_norm(x)))

    def waves(self, t):
        """Times (B,) to sines then cosines."""
        angle = t[:, None] * self.omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)


def descent(size):
    """The layers on the way down, and the channels of each result."""
    net = size.network
    first = Convolution(size.channels, net.channels, 3)
    layers = nn.ModuleDict({f"{size.side}x{size.side}_conv": first})
    channels = [net.channels]
    for level, multiplier in enumerate(net.multipliers):
        side = size.side >> level
        name = f"{side}x{side}"
        if level:
            layers[f"{name}_down"] = Block(net, channels[-1], channels[-1], "down")
            channels.append(channels[-1])
        for index in range(net.blocks):
            outputs = multiplier * net.channels
            sees = side in net.attention
            layers[f"{name}_block{index}"] = Block(net, channels[-1], outputs, attention=sees)
            channels.append(outputs)
    return layers, channels


def ascent(size, skips):
    """The layers on the way up; `skips` are the channels of what the way down leaves."""
    net, now = size.network, skips[-1]
    layers = nn.ModuleDict()
    lowest = len(net.multipliers) - 1
    for level, multiplier in reversed(list(enumerate(net.multipliers))):
        side = size.side >> level
        name = f"{side}x{side}"
        if level == lowest:
            layers[f"{name}_in0"] = Block(net, now, now, attention=True)
            layers[f"{name}_in1"] = Block(net, now, now)
        else:
            layers[f"{name}_up"] = Block(net, now, now, "up")
        for index in range(net.blocks + 1):
            outputs = multiplier * net.channels
            sees = index == net.blocks and side in net.attention
            inputs = now + skips.pop()
            layers[f"{name}_block{index}"] = Block(net, inputs, outputs, attention=sees)
            now = outputs
    layers[f"{name}_aux_norm"] = Norm(now)
    layers[f"{name}_aux_conv"] = Convolution(now, size.channels, 3, SMALL)
    return layers
