"""The diffusion transformer of the benchmarks as a JAX function of named weights.

Same network and the same names as `dit.py`; weights keep PyTorch's layout. Shapes: B
batch, C channels, S side, N tokens, D width.
"""

import jax
import jax.numpy as jnp
import numpy as np

FREQUENCIES = 256
MAX_PERIOD = 10_000.0


def initial(size, key):
    """Weights of the right shapes; their values do not matter to a clock."""
    d, patch = size.network.width, size.channels * size.network.patch**2
    linears = {"final_layer.linear": (patch, d), "final_layer.adaLN_modulation.1": (2 * d, d)}
    for time in "th":
        linears[f"{time}_embedder.mlp.0"] = (d, FREQUENCIES)
        linears[f"{time}_embedder.mlp.2"] = (d, d)
    for index in range(size.network.depth):
        block = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (4 * d, d)}
        block |= {"mlp.fc2": (d, 4 * d), "adaLN_modulation.1": (6 * d, d)}
        linears |= {f"blocks.{index}.{name}": shape for name, shape in block.items()}
    shapes = {f"{name}.weight": shape for name, shape in linears.items()}
    shapes["x_embedder.proj.weight"] = (d, size.channels, size.network.patch, size.network.patch)
    shapes["y_embedder.embedding_table.weight"] = (size.classes + 1, d)
    keys = jax.random.split(key, len(shapes))
    weights = {
        name: 0.02 * jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    for name in [*linears, "x_embedder.proj"]:
        outputs = weights[f"{name}.weight"].shape[0]
        weights[f"{name}.bias"] = jnp.zeros(outputs)
    return weights


def forward(size, weights, z, r, t, label):
    """u(z, r, t | label); the label `classes` is the null class."""

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def time(name, t):
        return linear(f"{name}.mlp.2", jax.nn.silu(linear(f"{name}.mlp.0", sinusoid(t))))

    def attention(name, x):
        b, n, d = x.shape
        qkv = linear(f"{name}.qkv", x).reshape(b, n, 3, size.network.heads, d // size.network.heads)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        scores = jnp.einsum("bnhd,bmhd->bhnm", q, k) * (d // size.network.heads) ** -0.5
        mixed = jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores), v)
        return linear(f"{name}.proj", mixed.reshape(b, n, d))

    def perceptron(name, x):
        return linear(f"{name}.fc2", jax.nn.gelu(linear(f"{name}.fc1", x), approximate=True))

    condition = time("t_embedder", t) + time("h_embedder", t - r)
    condition = jax.nn.silu(condition + weights["y_embedder.embedding_table.weight"][label])
    x = patches(size, z) @ weights["x_embedder.proj.weight"].reshape(size.network.width, -1).T
    x = x + weights["x_embedder.proj.bias"] + positions(size)
    for index in range(size.network.depth):
        name = f"blocks.{index}"
        parts = linear(f"{name}.adaLN_modulation.1", condition)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(parts, 6, axis=1)
        mixed = attention(f"{name}.attn", modulate(norm(x), shift_a, scale_a))
        x = x + gate_a[:, None] * mixed
        fed = perceptron(f"{name}.mlp", modulate(norm(x), shift_m, scale_m))
        x = x + gate_m[:, None] * fed
    parts = linear("final_layer.adaLN_modulation.1", condition)
    shift, scale = jnp.split(parts, 2, axis=1)
    return picture(size, linear("final_layer.linear", modulate(norm(x), shift, scale)))


def sinusoid(t):
    """Times (B,) to cosines then sines (B, FREQUENCIES); t is not rescaled."""
    half = FREQUENCIES // 2
    angle = t[:, None] * jnp.exp(-np.log(MAX_PERIOD) * jnp.arange(half) / half)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)


def positions(size):
    """Fixed sin-cos positions (N, D): half the width per axis."""
    quarter = size.network.width // 4
    angle = np.arange(size.cells)[:, None] * MAX_PERIOD ** (-np.arange(quarter) / quarter)
    axis = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    column, row = np.tile(axis, (size.cells, 1)), np.repeat(axis, size.cells, axis=0)
    return jnp.asarray(np.concatenate([column, row], axis=1), dtype=jnp.float32)


def norm(x):
    """LayerNorm without gain or bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def patches(size, z):
    """(B, C, S, S) to (B, N, C * patch * patch), channel slowest."""
    c, n, p = size.channels, size.cells, size.network.patch
    z = z.reshape(-1, c, n, p, n, p).transpose(0, 2, 4, 1, 3, 5)
    return z.reshape(-1, n * n, c * p * p)


def picture(size, x):
    """(B, N, patch * patch * C), channel fastest, to (B, C, S, S)."""
    c, n, p = size.channels, size.cells, size.network.patch
    x = x.reshape(-1, n, n, p, p, c).transpose(0, 5, 1, 3, 2, 4)
    return x.reshape(-1, c, size.side, size.side)
