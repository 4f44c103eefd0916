"""MeanFlow models in plain PyTorch: reads config.json and model.safetensors and draws samples.

    from modeling_meanflow import MeanFlow, to_images

    model = MeanFlow.from_pretrained(".")
    samples = model.sample(model.noise([0, 1, 2, 3]))  # one evaluation of the network a sample
    images = to_images(samples)                         # uint8, [4, height, width, channels]

It needs torch, numpy and safetensors, and nothing else. The noise of a seed is that of the program `meanflow`, so a seed
gives the same picture here and there.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

FORMAT_VERSION = 1


def sinusoid(x, frequencies):
    """[cos(x f), sin(x f)] along a new last dimension."""
    angles = x[..., None] * frequencies.to(x)
    return torch.cat([angles.cos(), angles.sin()], -1)


def times_of(embedding, r, t):
    """The times that a network sees, by the letters of its configuration: t, r, and h = t - r."""
    return [{"t": t, "r": r, "h": t - r}[letter] for letter in embedding]


def label_embedder(classes, width):
    """A vector for every class, and one, the last, for no class."""
    return nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})


class TimestepEmbedder(nn.Module):
    """A sinusoid of a time through two layers."""

    CHANNELS = 256

    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(self.CHANNELS, width), nn.SiLU(), nn.Linear(width, width))
        half = self.CHANNELS // 2
        self.frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float64) / half)

    def forward(self, time):
        return self.mlp(sinusoid(time, self.frequencies))


class TimeAndLabel(nn.Module):
    """The sum of embedded times and class, which DiT and MLP are conditioned on."""

    def __init__(self, embedding, width, classes):
        super().__init__()
        self.embedding = embedding
        for letter in embedding:
            setattr(self, f"{letter}_embedder", TimestepEmbedder(width))
        if classes > 0:
            self.y_embedder = label_embedder(classes, width)

    def condition(self, r, t, labels):
        times = zip(self.embedding, times_of(self.embedding, r, t))
        total = sum(getattr(self, f"{letter}_embedder")(time) for letter, time in times)
        return total if labels is None else total + self.y_embedder["embedding_table"](labels)


class Mlp(TimeAndLabel):
    """Residual layers x + W2 SiLU(W1 x + W3 c), for points of a few dimensions."""

    FREQUENCIES = torch.tensor([1.0, 2.0, 4.0, 8.0])

    def __init__(self, config, shape, classes):
        width = config["width"]
        super().__init__(config["embedding"], width, classes)
        self.first = nn.Linear(shape[0] * (1 + 2 * len(self.FREQUENCIES)), width)
        layer = lambda: nn.ModuleDict({name: nn.Linear(width, width) for name in ("expand", "contract", "condition")})
        self.layers = nn.ModuleList(layer() for _ in range(config["depth"]))
        self.last = nn.Linear(width, shape[0])

    def forward(self, z, r, t, labels):
        condition = F.silu(self.condition(r, t, labels))
        waves = sinusoid(z, self.FREQUENCIES) / self.FREQUENCIES.tile(2).to(z)
        x = self.first(torch.cat([z, waves.flatten(1)], -1))
        for layer in self.layers:
            x = x + layer["contract"](F.silu(layer["expand"](x) + layer["condition"](condition)))
        return self.last(F.silu(x))


def modulation(width, parts):
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


def modulate(x, shift, scale):
    normal = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return normal * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """Attention and a perceptron, each shifted, scaled and gated by the condition (adaLN-zero)."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.adaLN_modulation = modulation(width, 6)

    def attention(self, x):
        rows, tokens, width = x.shape
        split = self.attn["qkv"](x).view(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.attn["proj"](attended.transpose(1, 2).reshape(rows, tokens, width))

    def forward(self, x, condition):
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(condition).chunk(6, 1)
        x = x + gate[:, None] * self.attention(modulate(x, shift, scale))
        hidden = F.gelu(self.mlp["fc1"](modulate(x, shift_mlp, scale_mlp)), approximate="tanh")
        return x + gate_mlp[:, None] * self.mlp["fc2"](hidden)


class Dit(TimeAndLabel):
    """The diffusion transformer with two times."""

    def __init__(self, config, shape, classes):
        width, patch = config["width"], config["patch"]
        super().__init__(config["embedding"], width, classes)
        self.patch, self.channels = patch, shape[0]
        self.rows, self.columns = shape[1] // patch, shape[2] // patch
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(shape[0], width, patch, patch)})
        hidden = int(width * config["mlp_ratio"])
        self.blocks = nn.ModuleList(Block(width, config["heads"], hidden) for _ in range(config["depth"]))
        parts = {"adaLN_modulation": modulation(width, 2), "linear": nn.Linear(width, patch * patch * shape[0])}
        self.final_layer, self.positions = nn.ModuleDict(parts), self.sincos(width)

    def sincos(self, width):
        """Fixed positions: the first half of the channels tells the column, the second the row."""
        frequencies = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
        row, column = torch.meshgrid(torch.arange(self.rows), torch.arange(self.columns), indexing="ij")
        angles = [place.flatten()[:, None].double() * frequencies for place in (column, row)]
        return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)

    def forward(self, z, r, t, labels):
        condition = self.condition(r, t, labels)
        x = self.x_embedder["proj"](z).flatten(2).transpose(1, 2) + self.positions.to(z)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.final_layer["adaLN_modulation"](condition).chunk(2, 1)
        x = self.final_layer["linear"](modulate(x, shift, scale))
        x = x.view(-1, self.rows, self.columns, self.patch, self.patch, self.channels)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(z.shape)


def group_norm(channels):
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


class UnetBlock(nn.Module):
    """Two convolutions with the embedding added between them, then attention where there is any."""

    def __init__(self, inputs, outputs, embedding, taps, resize=None, attention=False, skip=0):
        super().__init__()
        self.resize, self.attends, self.sees_skip = resize, attention, skip > 0
        self.norm0, self.norm1 = group_norm(inputs), group_norm(outputs)
        self.conv0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.affine = nn.Linear(embedding, outputs)
        taps = torch.tensor(taps, dtype=torch.float64)
        self.filter = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs or resize else nn.Identity()
        if attention:
            self.norm2 = group_norm(outputs)
            self.qkv, self.proj = nn.Conv2d(outputs, 3 * outputs, 1), nn.Conv2d(outputs, outputs, 1)

    def resample(self, x):
        channels, side = x.shape[1], self.filter.shape[-1]
        kernel = self.filter.to(x).repeat(channels, 1, 1, 1)
        if self.resize == "halve":
            return F.conv2d(x, kernel, stride=2, padding=(side - 1) // 2, groups=channels)
        if self.resize == "double":
            return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=(side - 1) // 2, groups=channels)
        return x

    def attention(self, x):
        rows, channels, height, width = x.shape
        q, k, v = self.qkv(self.norm2(x)).view(rows, 3, channels, -1).transpose(2, 3).unbind(1)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return (self.proj(attended.reshape(rows, channels, height, width)) + x) * math.sqrt(0.5)

    def forward(self, x, embedding):
        hidden = self.conv0(self.resample(F.silu(self.norm0(x)))) + self.affine(embedding)[..., None, None]
        hidden = self.conv1(F.silu(self.norm1(hidden)))
        y = (hidden + self.skip(self.resample(x))) * math.sqrt(0.5)
        return self.attention(y) if self.attends else y


class Unet(nn.Module):
    """Residual blocks at falling and then rising resolution (NCSN++, DDPM++) with two times."""

    def __init__(self, config, shape, classes):
        super().__init__()
        channels, self.embedding = config["channels"], config["embedding"]
        time, width = channels * config["noise_ratio"], 4 * channels
        half, inputs = time // 2, time * len(self.embedding)
        self.frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / (half - 1))
        if config["augment"] > 0:  # Samples are not augmented: the weights are there, and not used.
            self.map_augment = nn.Linear(config["augment"], inputs, bias=False)
        if classes > 0:
            self.y_embedder = label_embedder(classes, inputs)
        self.map_layer0, self.map_layer1 = nn.Linear(inputs, width), nn.Linear(width, width)
        block = lambda *args, **more: UnetBlock(*args, width, config["filter"], **more)

        side, multipliers = shape[1], config["multipliers"]
        self.enc = nn.ModuleDict({f"{side}x{side}_conv": nn.Conv2d(shape[0], channels, 3, padding=1)})
        skips, current = [channels], channels
        for level, multiplier in enumerate(multipliers):
            name = f"{side >> level}x{side >> level}"
            if level > 0:
                self.enc[f"{name}_down"] = block(current, current, resize="halve")
                skips.append(current)
            for index in range(config["blocks"]):
                attention, before, current = side >> level in config["attention"], current, multiplier * channels
                self.enc[f"{name}_block{index}"] = block(before, current, attention=attention)
                skips.append(current)
        self.dec = nn.ModuleDict()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            name = f"{side >> level}x{side >> level}"
            if level == len(multipliers) - 1:
                self.dec[f"{name}_in0"] = block(current, current, attention=True)
                self.dec[f"{name}_in1"] = block(current, current)
            else:
                self.dec[f"{name}_up"] = block(current, current, resize="double")
            for index in range(config["blocks"] + 1):
                attention = index == config["blocks"] and side >> level in config["attention"]
                skip, before, current = skips.pop(), current, multiplier * channels
                self.dec[f"{name}_block{index}"] = block(before + skip, current, attention=attention, skip=skip)
        self.dec[f"{side}x{side}_aux_norm"] = group_norm(current)
        self.dec[f"{side}x{side}_aux_conv"] = nn.Conv2d(current, shape[0], 3, padding=1)

    def forward(self, z, r, t, labels):
        waves = [sinusoid(time, self.frequencies).chunk(2, 1) for time in times_of(self.embedding, r, t)]
        x = torch.cat([part for cos, sin in waves for part in (sin, cos)], 1)
        if labels is not None:
            x = x + self.y_embedder["embedding_table"](labels)
        embedding = F.silu(self.map_layer1(F.silu(self.map_layer0(x))))
        first, *down = self.enc.values()
        *up, norm, last = self.dec.values()
        x = first(z)
        skips = [x]
        for block in down:
            x = block(x, embedding)
            skips.append(x)
        for block in up:
            x = block(torch.cat([x, skips.pop()], 1) if block.sees_skip else x, embedding)
        return last(F.silu(norm(x)))


NETWORKS = {"mlp": Mlp, "dit": Dit, "unet": Unet}


def prior_scale(schedule):
    """The deviation of the state at t = 1, from which sampling starts."""
    kind = schedule["kind"]
    if kind == "variance-preserving":
        return math.sqrt(-math.expm1(-0.5 * (schedule["beta_max"] + schedule["beta_min"])))
    if kind not in ("linear", "polynomial", "cosine"):
        raise ValueError(f"config.json: model.schedule.kind: {kind!r} is not known here")
    return 1.0


class MeanFlow(nn.Module):
    """A network for the average velocity u(z, r, t) with the sampler that it was trained for."""

    def __init__(self, config):
        super().__init__()
        model = config["model"]
        version, kind, predicted = config["format_version"], model["network"]["kind"], model.get("prediction", "u")
        if version != FORMAT_VERSION or kind not in NETWORKS or predicted not in ("u", "x"):
            raise ValueError(f"config.json: format {version!r}, network {kind!r} or prediction {predicted!r} is not known here")
        self.predicts_data = predicted == "x"
        self.shape, self.classes = tuple(model["shape"]), model["classes"]
        self.class_names = config.get("class_names")
        self.scale = prior_scale(model["schedule"])
        self.network = NETWORKS[kind](model["network"], model["shape"], model["classes"])

    @classmethod
    def from_pretrained(cls, folder):
        """The model of a folder that `meanflow export hf` wrote."""
        folder = Path(folder)
        model = cls(json.loads((folder / "config.json").read_text()))
        model.network.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()

    def noise(self, seeds):
        """The noise of every seed, [seeds, *shape], as `meanflow sample` draws it."""
        size = math.prod(self.shape)
        return torch.from_numpy(np.stack([normal(int(seed), size) for seed in seeds])).reshape(-1, *self.shape)

    def forward(self, z, r, t, labels=None):
        """u(z, r, t | labels): z [B, *shape], r and t [B]; without labels every row is one without class."""
        if self.classes > 0 and labels is None:
            labels = torch.full((len(z),), self.classes, device=z.device)
        output = self.network(z, r, t, labels if self.classes > 0 else None)
        return (z - output) / t.clamp(min=0.05).view(-1, *[1] * len(self.shape)) if self.predicts_data else output

    @torch.no_grad()
    def sample(self, noise, labels=None, steps=1):
        """Samples [B, *shape] of noise [B, *shape] in this many evaluations of the network; labels: B numbers of classes."""
        z = self.scale * noise
        labels = None if labels is None else torch.as_tensor(labels, device=z.device)
        for step in range(steps):
            t, r = (1 - place / steps for place in (step, step + 1))
            z = z - (t - r) * self(z, z.new_full((len(z),), r), z.new_full((len(z),), t), labels)
        return z


def to_images(samples):
    """Pictures [B, C, H, W] with values from -1 to 1 as uint8 [B, H, W, C]."""
    pixels = ((samples.clamp(-1, 1) + 1) * 127.5 + 0.5).floor().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011): words [4, N] of counters [4, N] under a key of two words."""
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for turn in range(10):
        keys = (key[0] + turn * 0x9E3779B9, key[1] + turn * 0xBB67AE85)
        first, second = (np.uint64(word & 0xFFFFFFFF) for word in keys)
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (right >> half) ^ b ^ first, right & low, (left >> half) ^ d ^ second, left & low
    return np.stack([a, b, c, d])


def normal(seed, size):
    """Standard normal numbers, f32 [size], of a seed: stream 7 of Philox, then Box and Muller."""
    blocks = np.arange((size + 3) // 4, dtype=np.uint64)
    zero = np.zeros_like(blocks)
    words = philox([blocks, zero + np.uint64(7), zero, zero], [seed & 0xFFFFFFFF, seed >> 32])
    radius, angle = (words.T.reshape(-1, 2).T.astype(np.float64) + 0.5) * 2.0**-32
    radius = np.sqrt(-2 * np.log(radius))
    pairs = np.stack([radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)], 1)
    return pairs.astype(np.float32).reshape(-1)[:size]
