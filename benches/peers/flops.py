"""Operations of the networks as PyTorch's own counter sees them: the figures of crates/meanflow-torch/tests/work.rs.

    python benches/peers/flops.py       # needs torch

Prints, for one row on the CPU, operations of a forward and of a backward pass. The transformer is that of dit.py; the U-Net is
written here once more, for its shapes only (it has the parameter count of the published network, and no sense of initialisation).
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dit import Dit, Size


class Attention(nn.Module):
    """One head over the pixels."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(min(32, channels // 4), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, c, h * w).transpose(2, 3).unbind(1)
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
        return x + self.proj(mixed[:, 0].transpose(1, 2).reshape(b, c, h, w))


class Residual(nn.Module):
    """Two convolutions around the embedding; `size` is -1 to halve the picture, 1 to double it."""

    def __init__(self, inputs, outputs, width, size=0, attention=False):
        super().__init__()
        self.size, self.inputs = size, inputs
        self.norm0 = nn.GroupNorm(min(32, inputs // 4), inputs)
        self.conv0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(width, outputs)
        self.norm1 = nn.GroupNorm(min(32, outputs // 4), outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        changes = size or inputs != outputs
        self.skip = nn.Conv2d(inputs, outputs, 1) if changes else nn.Identity()
        self.attention = Attention(outputs) if attention else nn.Identity()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", torch.outer(taps, taps).expand(inputs, 1, 4, 4))

    def resample(self, x):
        if self.size < 0:
            return F.conv2d(x, self.taps, stride=2, padding=1, groups=self.inputs)
        if self.size > 0:
            return F.conv_transpose2d(
                x, 4 * self.taps, stride=2, padding=1, groups=self.inputs
            )
        return x

    def forward(self, x, embedding):
        hidden = self.conv0(self.resample(F.silu(self.norm0(x))))
        hidden = hidden + self.affine(embedding)[:, :, None, None]
        hidden = self.conv1(F.silu(self.norm1(hidden)))
        return self.attention(hidden + self.skip(self.resample(x)))


class Unet(nn.Module):
    """Residual blocks down and up again; attention at the sides `attention`, and once at the lowest."""

    def __init__(self, channels, multipliers, blocks, attention, side, augment):
        super().__init__()
        width, times = 4 * channels, 4 * channels
        self.times = times
        self.embed = nn.ModuleList([nn.Linear(times, width), nn.Linear(width, width)])
        self.augment = nn.Linear(augment, times, bias=False)
        self.enter = nn.Conv2d(3, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now, skips = channels, [channels]
        for level, multiplier in enumerate(multipliers):
            if level:
                self.down.append(Residual(now, now, width, -1))
                skips.append(now)
            for _ in range(blocks):
                sees = (side >> level) in attention
                self.down.append(Residual(now, multiplier * channels, width, 0, sees))
                now = multiplier * channels
                skips.append(now)
        for level, multiplier in reversed(list(enumerate(multipliers))):
            if level == len(multipliers) - 1:
                self.up.append(Residual(now, now, width, 0, True))
                self.up.append(Residual(now, now, width))
            else:
                self.up.append(Residual(now, now, width, 1))
            for index in range(blocks + 1):
                sees = index == blocks and (side >> level) in attention
                skip = skips.pop()
                block = Residual(now + skip, multiplier * channels, width, 0, sees)
                block.skips = True
                self.up.append(block)
                now = multiplier * channels
        self.norm = nn.GroupNorm(min(32, now // 4), now)
        self.leave = nn.Conv2d(now, 3, 3, padding=1)

    def forward(self, x, times, augment):
        embedding = F.silu(self.embed[0](times + self.augment(augment)))
        embedding = F.silu(self.embed[1](embedding))
        x = self.enter(x)
        skips = [x]
        for block in self.down:
            x = block(x, embedding)
            skips.append(x)
        for block in self.up:
            if hasattr(block, "skips"):
                x = torch.cat([x, skips.pop()], 1)
            x = block(x, embedding)
        return self.leave(F.silu(self.norm(x)))


def count(network, *inputs):
    """Operations of a forward, of a backward pass, and the number of parameters."""
    # The counter does not know the fused kernel of the CPU; products it knows.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            y = network(*inputs)
        with FlopCounterMode(display=False) as backward:
            y.sum().backward()
    parameters = sum(p.numel() for p in network.parameters())
    return forward.get_total_flops(), backward.get_total_flops(), parameters


def transformer(size):
    z = torch.zeros(1, size.channels, size.side, size.side)
    r, t, label = torch.zeros(1), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    return count(Dit(size), z, r, t, label)


def unet(channels, multipliers, blocks, attention, side):
    network = Unet(channels, multipliers, blocks, attention, side, 6)
    z = torch.zeros(1, 3, side, side)
    return count(network, z, torch.zeros(1, network.times), torch.zeros(1, 6))


if __name__ == "__main__":
    print("torch", torch.__version__)
    print("digits", transformer(Size(1, 8, 2, 96, 4, 4, 10, 1)))
    print("s4", transformer(Size(4, 32, 4, 384, 12, 6, 1000, 1)))
    print("b2", transformer(Size(4, 32, 2, 768, 12, 12, 1000, 1)))
    print("cifar", unet(128, [2, 2, 2], 4, [16], 32))
    print("small unet", unet(32, [1, 2], 2, [16, 8], 16))
