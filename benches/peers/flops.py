"""Operations of the networks as PyTorch's own counter sees them: the figures of crates/meanflow-torch/tests/work.rs.

    python benches/peers/flops.py       # needs torch

Prints, for one row on the CPU, operations of a forward and of a backward pass, and the number of parameters.
"""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import rival
from networks import network


def count(size):
    """Operations of a forward, of a backward pass, and the number of parameters."""
    net = network(size)
    z = torch.zeros(1, size.channels, size.side, size.side)
    r, t, label = torch.zeros(1), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    # The counter does not know the fused kernel of the CPU; products it knows.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            u = net(z, r, t, label)
        with FlopCounterMode(display=False) as backward:
            u.sum().backward()
    parameters = sum(p.numel() for p in net.parameters())
    return forward.get_total_flops(), backward.get_total_flops(), parameters


if __name__ == "__main__":
    print("torch", torch.__version__)
    for name in ("digits", "s4", "b2", "cifar-unet", "small-unet"):
        print(name, count(rival.size(name)))
