"""The PyTorch rivals of `cargo xtask bench sample`: samples in one evaluation.

Variants are `pytorch_ROWS` (eager) and `pytorch_compiled_ROWS` (`torch.compile`, static
shapes). With `--first WEIGHTS --out FILE` it is a program that loads weights, draws one
sample, writes it and ends: what a cold start is compared with.
"""

import sys

import numpy as np
import torch

import rival
from networks import network


@torch.inference_mode()
def draw(net, noise, labels):
    """z at t = 1 to a sample at r = 0 in one jump."""
    t = torch.ones(len(noise), device=noise.device)
    return noise - net(noise, torch.zeros_like(t), t, labels)


class Torch:
    """The rivals."""

    def __init__(self, options):
        torch.manual_seed(0)
        self.size, self.device = options.size, torch.device(options.device)
        self.net = network(options.size).to(self.device).eval()
        self.nets = {"pytorch": self.net, "pytorch_compiled": torch.compile(self.net, dynamic=False)}
        self.variants = options.variants

    def warm(self, name):
        self.step(name)
        return {"peak_mib": None, "units": None}

    def step(self, name):
        kind, _, rows = name.rpartition("_")
        rows, size = int(rows), self.size
        noise = torch.randn(rows, size.channels, size.side, size.side, device=self.device)
        labels = torch.arange(rows, device=self.device) % size.classes
        return draw(self.nets[kind], noise, labels).cpu()

    def errors(self, proof, name):
        weights = {k: torch.from_numpy(v) for k, v in proof.part("weight.").items()}
        self.net.load_state_dict(weights)
        noise, labels = (torch.from_numpy(proof.tensors[k]).to(self.device) for k in ("noise", "labels"))
        found = draw(self.nets[name.rpartition("_")[0]], noise, labels).cpu().numpy()
        expected = proof.tensors["samples"]
        return (rival.squares(found - expected) / rival.squares(expected)) ** 0.5


def first(options):
    """From a file of weights to a file with one sample."""
    size, device = options.size, torch.device(options.device)
    net = network(size).to(device)
    weights = rival.load_file(options.first)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    noise = torch.randn(1, size.channels, size.side, size.side, device=device)
    labels = torch.zeros(1, dtype=torch.long, device=device)
    np.savez(options.out, arr_0=draw(net, noise, labels).cpu().numpy())


def main():
    parser = rival.parser(__doc__.splitlines()[0])
    parser.add_argument("--first")
    parser.add_argument("--out")
    options = rival.parsed(parser)
    if options.threads:
        torch.set_num_threads(options.threads)
    # Ours computes in f32; PyTorch starts with TF32 in convolutions.
    torch.backends.cudnn.allow_tf32 = False
    if options.first:
        first(options)
    else:
        rival.serve(Torch(options))


if __name__ == "__main__":
    sys.exit(main())
