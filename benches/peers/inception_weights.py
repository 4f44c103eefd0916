"""Converts the published weights of Inception v3 (2015-12-05) to safetensors.

usage: inception_weights.py FILE.pth OUT.safetensors [--unchecked]

FILE.pth is the state dictionary that torch-fidelity and pytorch-fid publish,
`weights-inception-2015-12-05-6726825d.pth` or `pt_inception-2015-12-05-6726825d.pth`
(one content, 95 MB): the beginning of its SHA-256 is in its name and is checked, unless
--unchecked is given. It is read with `weights_only=True`, which runs no code of the file.
Names and values stay; counters of batches, which only training reads, are left out.

Needs torch and safetensors.
"""

import hashlib
import sys

import torch
from safetensors.torch import save_file

SHA256 = "6726825d"


def main():
    args = [arg for arg in sys.argv[1:] if arg != "--unchecked"]
    if len(args) != 2:
        sys.exit(__doc__)
    with open(args[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(SHA256) and "--unchecked" not in sys.argv:
        sys.exit(f"{args[0]}: expected a SHA-256 that begins with {SHA256}, got {digest}")
    state = torch.load(args[0], map_location="cpu", weights_only=True)
    kept = {
        name: tensor.float().contiguous()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(kept, args[1], metadata={"sha256_of_source": digest})
    print(f"{args[1]}: {len(kept)} tensors")


if __name__ == "__main__":
    main()
