"""What the rivals in Python share: sizes, options, the line protocol, the proof.

A rival is an object with `variants`, a list of names, and three methods: `warm(name)`
runs some steps and returns {"peak_mib": ..., "units": ...}; `step(name)` runs one step
and waits for its end; `errors(proof, name)` says how far it is from what is written in
the proof, with the weights and the inputs of the proof.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

JUMP_SHARE = 0.25
LABEL_DROP = 0.1
EMA_DECAY = 0.9999
ADAPTIVE_C = 1e-2
RATE, BETAS, EPSILON = 1e-4, (0.9, 0.95), 1e-8
WARM_UP_STEPS = 3
# (omega, kappa) of the guided target, at all times.
GUIDANCE = {"none": (1.0, 0.0), "kappa0": (2.0, 0.0), "kappa": (1.0, 0.5)}


@dataclass(frozen=True)
class Size:
    """One benchmark size: an entry of benches/sizes.json, with a batch."""

    channels: int
    side: int
    classes: int
    network: SimpleNamespace
    batch: int

    @property
    def cells(self):
        """Patches in a row of a transformer's picture."""
        return self.side // self.network.patch


# What the networks here have been written for, of what a recipe may say of one.
WRITTEN_FOR = {"mlp_ratio": 4, "embedding": "th", "augment": 0, "dropout": 0}


def size(name, device="cpu", batch=None):
    """A size of benches/sizes.json, with its batch for the device or another."""
    with open(Path(__file__).parent.parent / "sizes.json") as file:
        found = json.load(file)[name]
    network = found["network"]
    for key, known in WRITTEN_FOR.items():
        if network.get(key, known) != known:
            raise ValueError(f"{name}: {key}: expected {known}, got {network[key]}")
    batch = batch or found["batch"]["cpu" if device == "cpu" else "cuda"]
    return Size(**{**found, "network": SimpleNamespace(**network), "batch": batch})


def options(description):
    """The options of the command line, with `size` a Size."""
    return parsed(parser(description))


def parser(description):
    """The options that every rival has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--guidance", choices=sorted(GUIDANCE), default="none")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="f32")
    parser.add_argument("--variants", type=lambda text: text.split(","))
    return parser


def parsed(parser):
    """The options, with `size` a Size."""
    found = parser.parse_args()
    found.size = size(found.size, found.device, found.batch)
    return found


def work_on_processors(count):
    """Keeps this process, started for it alone, on so many processors (Linux)."""
    if count:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


class Work:
    """Rows that went through a network, as the Rust side counts them."""

    def __init__(self):
        self.forwards = self.tangents = self.taped = 0

    def units(self, rows):
        """Network forwards over a batch: a backward pass is two."""
        return (self.forwards + self.tangents + 2 * self.taped) / rows


# What a proof or a file of weights may hold.
DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}


def load_file(path):
    """The arrays of a safetensors file by name; the package of that name may be missing beside PyTorch."""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = bytearray(data[8 + length :])
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(memoryview(body)[begin:end], DTYPES[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    return arrays


class Proof:
    """Weights, batch, loss and gradients that this project wrote."""

    def __init__(self, file):
        self.tensors = load_file(file)

    def part(self, prefix):
        """The tensors whose names start with this, without it."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }

    def errors(self, loss, v_loss, gradients):
        """How far a rival is away, relative to what was written."""
        expected = self.part("gradient.")
        if set(expected) != set(gradients):
            raise ValueError(f"gradients of {set(expected) ^ set(gradients)}?")
        apart = {
            name: (squares(gradients[name] - value), squares(value))
            for name, value in expected.items()
        }
        relative = {name: (a / max(b, 1e-300)) ** 0.5 for name, (a, b) in apart.items()}
        worst = max(relative, key=relative.get)
        difference, whole = (sum(pair) for pair in zip(*apart.values(), strict=True))
        distance = np.abs(v_loss / self.tensors["v_loss"] - 1)
        return {
            "loss": abs(float(loss) / float(self.tensors["loss"]) - 1),
            "v_loss": float(distance.max()),
            "gradient": (difference / whole) ** 0.5,
            "worst": relative[worst],
            "worst_name": worst,
        }


def squares(x):
    """The sum of squares, in f64."""
    flat = np.asarray(x, dtype=np.float32).ravel()
    return float(np.sum(np.square(flat, dtype=np.float64)))


def serve(rival):
    """Warms every variant, then obeys lines until the input ends."""
    facts, failures = {}, {}
    for name in rival.variants:
        try:
            facts[name] = rival.warm(name)
        except Exception as error:  # A variant that does not run is a result.
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    print("ready", flush=True)
    for line in sys.stdin:
        verb, _, name = line.strip().partition(" ")
        if verb == "quit":
            break
        if name in failures:
            answer = {"error": failures[name]}
        elif verb == "run" and name in facts:
            answer = measure(rival, name, facts[name])
        elif verb == "prove":
            answer = {name: prove(rival, name, Proof(rest)) for name, rest in asked(name, facts)}
        else:
            answer = {"error": f"unknown request {line.strip()!r}"}
        print(json.dumps(answer), flush=True)


def asked(file, facts):
    """Every variant that runs, with the file; flow matching is no part of the proof."""
    return [(name, file) for name in facts if not name.endswith("_plain")]


def prove(rival, name, proof):
    """The errors of a variant on the proof."""
    return rival.errors(proof, name)


def measure(rival, name, facts):
    """One step with its wall time."""
    begin = time.perf_counter()
    rival.step(name)
    return {"ms": 1e3 * (time.perf_counter() - begin), **facts}
