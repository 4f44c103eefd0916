"""Times how long training is held up by the save of a checkpoint: this project beside torch.save.

usage: save.py target/release/save [--rounds 5] [--every 8] [--batch 2] [--side 32]
               [--recipe configs/imagenet256-b4.toml] [--folder FOLDER]

This project's side trains, and saves model, Adam's moments, average and the weights to sample from
in the background: hashed, synced, read back. The other side saves the same tensors (model, Adam's
moments, average) by torch.save, once as it is and once synced, while nothing else runs. Both take
turns; prints seconds of every round and the medians as one JSON object.

Needs torch and safetensors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file


def state(checkpoint):
    """What training has in memory, as a PyTorch program holds it."""
    files = sorted(checkpoint.glob("*.safetensors"))
    # Tensors of their own, not views of a mapped file.
    return {file.stem: {name: one.clone() for name, one in load_file(file).items()} for file in files}


def save(tensors, path, synced):
    begun = time.perf_counter()
    torch.save(tensors, path)
    if synced:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    seconds = time.perf_counter() - begun
    path.unlink()
    return seconds


def ask(rival):
    rival.stdin.write("run\n")
    rival.stdin.flush()
    return json.loads(rival.stdout.readline())


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    for name, number in [("rounds", 5), ("every", 8), ("batch", 2), ("side", 32)]:
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--recipe", default="configs/imagenet256-b4.toml")
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root = Path(temporary)
        command = [options.program, options.recipe, root / "run", str(options.every)]
        command.append(f"training.batch_size={options.batch}")
        command.append(f"data.config.shape=[4, {options.side}, {options.side}]")
        ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert ours.stdout.readline().strip() == "ready"
        ask(ours)  # the first save, which the other side's tensors come from
        tensors = state(max((root / "run/checkpoints").glob("step-*")))
        rounds = []
        for _ in range(options.rounds):
            found = ask(ours)
            found["torch.save"] = save(tensors, root / "state.pt", False)
            found["torch.save, synced"] = save(tensors, root / "state.pt", True)
            rounds.append(found)
            print({name: round(value, 3) for name, value in found.items()}, file=sys.stderr, flush=True)
        ours.kill()
        ours.wait()
    count = sum(one.numel() for one in tensors["model"].values())
    bytes_ = sum(one.nbytes for group in tensors.values() for one in group.values())
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    print(json.dumps({"parameters": count, "bytes": bytes_, "rounds": rounds, "medians": medians}))


if __name__ == "__main__":
    main()
