"""The JAX rival of `cargo xtask bench peers`: the structure of the official training step.

* `jax_plain`: flow matching;
* `jax_jit`: guided velocity on all rows, one `jax.jvp` on all rows, gradient, AdamW and
  EMA in one `jax.jit` that takes over its old state's memory.

The peak memory is what the compiler set aside for a step beyond that state.
"""

import os

import rival

OPTIONS = rival.options(__doc__.splitlines()[0])
# Before JAX looks for processors and devices.
rival.work_on_processors(OPTIONS.threads)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("JAX_PLATFORMS", OPTIONS.device)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import dit_jax  # noqa: E402

# As the others: f32 is f32 on every device, and the proof is in f32 in any case.
PROOF = "highest"
PRECISION = {"f32": PROOF, "tf32": "tensorfloat32", "bf16": "bfloat16"}[OPTIONS.precision]

SIZE = OPTIONS.size
OMEGA, KAPPA = rival.GUIDANCE[OPTIONS.guidance]


class Loss:
    """The losses, counting the rows of the network as they are traced."""

    def __init__(self):
        self.work = rival.Work()

    def u(self, weights, z, r, t, label, taped):
        self.work.forwards += len(z)
        self.work.taped += len(z) if taped else 0
        return dit_jax.forward(SIZE, weights, z, r, t, label)

    def guided(self, weights, z, t, v, labels, dropped):
        """The guided velocity; v itself in rows without a class."""
        if OMEGA == 1 and KAPPA == 0:
            return v
        weights = jax.lax.stop_gradient(weights)
        null = jnp.full_like(labels, SIZE.classes)
        mixed = OMEGA * v + (1 - OMEGA - KAPPA) * self.u(weights, z, t, t, null, False)
        if KAPPA:
            mixed = mixed + KAPPA * self.u(weights, z, t, t, labels, False)
        return jnp.where(wide(dropped), v, mixed)

    def mean_flow(self, weights, x, e, r, t, labels, dropped):
        z, v = path(x, e, t)
        label = jnp.where(dropped, SIZE.classes, labels)
        target = self.guided(weights, z, t, v, labels, dropped)
        self.work.tangents += len(z)
        u, du_dt = jax.jvp(
            lambda z, r, t: self.u(weights, z, r, t, label, True),
            (z, r, t),
            (target, jnp.zeros_like(r), jnp.ones_like(t)),
        )
        return adaptive(u, target - wide(t - r) * du_dt, v)

    def plain(self, weights, x, e, r, t, labels, dropped):
        z, v = path(x, e, t)
        label = jnp.where(dropped, SIZE.classes, labels)
        return adaptive(self.u(weights, z, t, t, label, True), v, v)


def wide(x):
    """(B,) against pictures."""
    return x[:, None, None, None]


def path(x, e, t):
    """z and v of the linear path."""
    return (1 - wide(t)) * x + wide(t) * e, e - x


def adaptive(u, target, v):
    """The loss (p = 1, sum over pixels), and |u - v|^2 of every row."""
    target = jax.lax.stop_gradient(target)
    distance = jnp.square(u - target).sum(axis=(1, 2, 3))
    weight = jax.lax.stop_gradient(1 / (distance + rival.ADAPTIVE_C))
    return (distance * weight).mean(), jnp.square(u - v).sum(axis=(1, 2, 3))


def draw(key, data, labels):
    """data, noise, r, t, labels, dropped; a fixed count of rows has r < t."""
    b = len(data)
    times, noise, drop = jax.random.split(key, 3)
    first, second = jax.nn.sigmoid(jax.random.normal(times, (2, b)) - 0.4)
    t = jnp.maximum(first, second)
    jump = jnp.arange(b) < b - int(b * (1 - rival.JUMP_SHARE))
    r = jnp.where(jump, jnp.minimum(first, second), t)
    dropped = jax.random.bernoulli(drop, rival.LABEL_DROP, (b,))
    return data, jax.random.normal(noise, data.shape), r, t, labels, dropped


def updated(state, gradients):
    """AdamW without decay, and the EMA; `state` is replaced."""
    count = state["count"] + 1
    beta1, beta2 = rival.BETAS
    rate = rival.RATE / (1 - beta1**count)

    def one(weight, average, first, second, gradient):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * jnp.square(gradient)
        root = jnp.sqrt(second / (1 - beta2**count)) + rival.EPSILON
        weight = weight - rate * first / root
        average = rival.EMA_DECAY * average + (1 - rival.EMA_DECAY) * weight
        return weight, average, first, second

    parts = ("weights", "average", "first", "second")
    new = {
        name: one(*(state[part][name] for part in parts), gradient)
        for name, gradient in gradients.items()
    }
    split = {
        part: {name: values[index] for name, values in new.items()}
        for index, part in enumerate(parts)
    }
    key, _ = jax.random.split(state["key"])
    return {**split, "count": count, "key": key}


class Jax:
    """The rivals."""

    def __init__(self):
        self.variants = OPTIONS.variants or ["jax_plain", "jax_jit"]
        keys = jax.random.split(jax.random.key(0), 3)
        shape = (SIZE.batch, SIZE.channels, SIZE.side, SIZE.side)
        self.data = jax.random.normal(keys[0], shape)
        self.labels = jax.random.randint(keys[1], (SIZE.batch,), 0, SIZE.classes)
        weights = dit_jax.initial(SIZE, keys[2])
        copies = [jax.tree.map(jnp.copy, weights) for _ in range(3)]
        self.state = dict(zip(("weights", "average", "first", "second"), [weights, *copies]))
        self.state |= {"count": jnp.zeros(()), "key": jax.random.key(1)}
        self.steps, self.losses = {}, {}

    def warm(self, name):
        loss = Loss()
        self.losses[name] = loss.plain if name == "jax_plain" else loss.mean_flow

        def step(state, data, labels):
            batch = draw(state["key"], data, labels)
            gradient = jax.grad(self.losses[name], has_aux=True)
            return updated(state, gradient(state["weights"], *batch)[0])

        with jax.default_matmul_precision(PRECISION):
            lowered = jax.jit(step, donate_argnums=0).lower(self.state, self.data, self.labels)
        units = loss.work.units(SIZE.batch)
        self.steps[name] = compiled = lowered.compile()
        for _ in range(rival.WARM_UP_STEPS):
            self.step(name)
        return {"peak_mib": peak(compiled), "units": units}

    def step(self, name):
        self.state = self.steps[name](self.state, self.data, self.labels)
        jax.block_until_ready(self.state)

    def errors(self, proof, name):
        return proof.errors(*self.gradients(proof, name))

    def gradients(self, proof, name):
        weights = {k: jnp.asarray(v) for k, v in proof.part("weight.").items()}
        batch = {k: jnp.asarray(v) for k, v in proof.part("batch.").items()}
        batch["dropped"] = batch["dropped"].astype(bool)
        names = ("data", "noise", "r", "t", "labels", "dropped")
        function = jax.jit(jax.value_and_grad(self.losses[name], has_aux=True))
        with jax.default_matmul_precision(PROOF):
            (loss, v_loss), gradients = function(weights, *(batch[k] for k in names))
        return float(loss), jax.device_get(v_loss), jax.device_get(gradients)


def peak(compiled):
    """Memory of a step beyond what it takes over, in MiB."""
    found = compiled.memory_analysis()
    if found is None:
        return None
    new = found.output_size_in_bytes - found.alias_size_in_bytes
    return (found.temp_size_in_bytes + max(new, 0)) / 2**20


class Absent:
    """In the place of the rivals where the network is not written in JAX."""

    variants = OPTIONS.variants or ["jax_plain", "jax_jit"]

    def warm(self, name):
        raise NotImplementedError(f"there is no {SIZE.network.kind} in JAX here")


if __name__ == "__main__":
    rival.serve(Jax() if SIZE.network.kind == "dit" else Absent())
