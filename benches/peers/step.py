"""The PyTorch peer of `cargo xtask bench step`.

Started with `--size digits|s4 --device cpu|cuda`, prints `ready` once warm, then
answers each line `run pytorch_plain` or `run pytorch_func_jvp` by one training
step and one JSON line {"ms": ..., "peak_mib": ...}; `quit` or the end of the
input ends it. An unknown line gets {"error": ...}.

`ms` is the wall time of that step. `peak_mib` is what the variant needs at its peak
above what was held before: on cuda of the step itself (allocator), on cpu of the
process during one step run before `ready`, starting from a trimmed heap (trimming
before timed steps would make them pay for the page faults).
"""

import argparse
import copy
import ctypes
import json
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from dit import SIZES, Dit

JUMP_SHARE = 0.25
LABEL_DROP = 0.1
EMA_DECAY = 0.9999
ADAPTIVE_C = 1e-2
WARM_UP_STEPS = 3


class Trainer:
    """Network, optimiser, EMA and one fixed batch of data."""

    def __init__(self, size, device):
        torch.manual_seed(0)
        self.size, self.device = size, device
        self.net = Dit(size).to(device)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(),
            lr=1e-4,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=True,
        )
        shape = (size.batch, size.channels, size.side, size.side)
        self.data = torch.randn(shape, device=device)
        self.labels = torch.randint(size.classes, (size.batch,), device=device)

    def draw(self, jump_share):
        """z, r, t, label and v of one batch; a fixed count of rows has r < t."""
        b, device = self.size.batch, self.device
        first, second = torch.sigmoid(torch.randn(2, b, device=device) - 0.4)
        t = torch.maximum(first, second)
        jump = torch.arange(b, device=device) < int(jump_share * b)
        r = torch.where(jump, torch.minimum(first, second), t)
        noise = torch.randn_like(self.data)
        wide = t[:, None, None, None]
        z = (1 - wide) * self.data + wide * noise
        dropped = torch.rand(b, device=device) < LABEL_DROP
        label = torch.where(dropped, self.size.classes, self.labels)
        return z, r, t, label, noise - self.data

    def descend(self, u, target):
        """One update: adaptive loss (p = 1, sum over pixels), backward, AdamW, EMA."""
        distance = (u - target.detach()).square().flatten(1).sum(1)
        loss = (distance / (distance.detach() + ADAPTIVE_C)).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.follow()

    @torch.no_grad()
    def follow(self):
        """EMA of the weights."""
        torch._foreach_lerp_(
            list(self.average.parameters()),
            list(self.net.parameters()),
            1 - EMA_DECAY,
        )

    def plain(self):
        """Flow matching: r = t everywhere."""
        z, r, t, label, v = self.draw(0.0)
        self.descend(self.net(z, r, t, label), v)

    def func_jvp(self):
        """MeanFlow as in the public ports: one jvp gives u (with grad) and du/dt."""
        z, r, t, label, v = self.draw(JUMP_SHARE)
        tangents = (v, torch.zeros_like(r), torch.ones_like(t))
        # The fused attention kernels have no forward-mode rule.
        with sdpa_kernel(SDPBackend.MATH):
            u, du_dt = torch.func.jvp(
                lambda z, r, t: self.net(z, r, t, label), (z, r, t), tangents
            )
        self.descend(u, v - (t - r)[:, None, None, None] * du_dt)


class CpuMemory:
    """Peak resident size of this process above that at the start (Linux)."""

    def restart(self):
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        self.before = self.mib("VmRSS:")

    def peak_mib(self):
        return self.mib("VmHWM:") - self.before

    def mib(self, key):
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith(key))
        return int(line.split()[1]) / 1024


class CudaMemory:
    """Peak of the caching allocator above what was allocated at the start."""

    def restart(self):
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def peak_mib(self):
        return (torch.cuda.max_memory_allocated() - self.before) / 2**20


class Bench:
    def __init__(self, size, device):
        trainer = Trainer(size, device)
        self.cuda = device.type == "cuda"
        self.memory = CudaMemory() if self.cuda else CpuMemory()
        self.variants = {
            "pytorch_plain": trainer.plain,
            "pytorch_func_jvp": trainer.func_jvp,
        }
        self.peaks = {}
        for name, step in self.variants.items():
            for _ in range(WARM_UP_STEPS):
                step()
            self.memory.restart()
            step()
            self.synchronise()
            self.peaks[name] = self.memory.peak_mib()

    def synchronise(self):
        if self.cuda:
            torch.cuda.synchronize()

    def answer(self, line):
        verb, _, name = line.strip().partition(" ")
        if verb != "run" or name not in self.variants:
            return {"error": f"unknown request {line.strip()!r}"}
        return self.measure(name)

    def measure(self, name):
        self.synchronise()
        if self.cuda:
            self.memory.restart()
        begin = time.perf_counter()
        self.variants[name]()
        self.synchronise()
        ms = 1e3 * (time.perf_counter() - begin)
        peak = self.memory.peak_mib() if self.cuda else self.peaks[name]
        return {"ms": ms, "peak_mib": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=sorted(SIZES), required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(SIZES[options.size], torch.device(options.device))
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        print(json.dumps(bench.answer(line)), flush=True)


if __name__ == "__main__":
    main()
