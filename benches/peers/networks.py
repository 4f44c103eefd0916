"""The PyTorch networks of the benchmarks, by kind."""

from dit import Dit
from unet import Unet


def network(size):
    """u(z, r, t | label) of that size, freshly initialised."""
    return {"dit": Dit, "unet": Unet}[size.network.kind](size)
