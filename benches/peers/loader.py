"""Times a folder of pictures on its way into batches: this project beside torchvision's DataLoader.

usage: loader.py target/release/loader [--rounds 3] [--pictures 10000] [--size 64] [--workers 2]

Makes a folder of JPEG files of 160x200 to 200x160 pixels in ten classes (quality 90, halved
colours), and lets both sides take turns over one epoch each: read, decode, ADM's centre crop,
mirrored with even odds, numbers in [-1, 1], shuffled batches of 64. Times run from the first
batch to the last, so that starting workers counts for nobody. Prints the pictures a second of
every round and the ratio of the medians as one JSON object.

Needs torch, torchvision, Pillow and numpy.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder


def photo(rng, height, width):
    """Smooth shapes and noise, which take as many bytes as a photograph does."""
    y, x = np.mgrid[0:height, 0:width]
    scale, phase = rng.uniform(5, 40, (3, 2)), rng.uniform(0, 6, (3, 2))
    waves = [np.sin(x / s[0] + p[0]) + np.cos(y / s[1] + p[1]) for s, p in zip(scale, phase)]
    values = 128 + 50 * np.stack(waves, -1) + rng.normal(0, 8, (height, width, 1))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def make(root, count):
    rng = np.random.default_rng(0)
    for index in range(count):
        folder = root / f"class{index % 10}"
        folder.mkdir(exist_ok=True)
        size = (160, 200) if index % 2 else (200, 160)
        photo(rng, *size).save(folder / f"{index:05}.jpg", quality=90)


class Crop:
    """ADM's centre crop: halved by a box, then bicubic, then cut."""

    def __init__(self, size):
        self.size = size

    def __call__(self, image):
        size = self.size
        while min(image.size) >= 2 * size:
            image = image.resize((image.size[0] // 2, image.size[1] // 2), Image.BOX)
        scale = size / min(image.size)
        image = image.resize(tuple(round(side * scale) for side in image.size), Image.BICUBIC)
        left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
        return image.crop((left, top, left + size, top + size))


def peer(root, size, workers):
    steps = [
        Crop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(0.5, 0.5),
    ]
    data = ImageFolder(root, transforms.Compose(steps))
    return torch.utils.data.DataLoader(
        data, batch_size=64, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )


def epoch(loader):
    batches = iter(loader)
    next(batches)
    begun, pictures = time.perf_counter(), 0
    for values, labels in batches:
        pictures += len(labels)
    return pictures / (time.perf_counter() - begun)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    for name, number in [("rounds", 3), ("pictures", 10000), ("size", 64), ("workers", 2)]:
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--folder", type=Path, help="where the pictures are, or are to be made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        if not any(root.glob("*")):
            root.mkdir(exist_ok=True)
            make(root, options.pictures)
        command = [options.program, str(root), str(options.size), str(options.workers)]
        ours = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert ours.stdout.readline().strip() == "ready"
        loader = peer(root, options.size, options.workers)
        found = {"meanflow": [], "torchvision": []}
        for _ in range(options.rounds):
            ours.stdin.write("run\n")
            ours.stdin.flush()
            found["meanflow"].append(json.loads(ours.stdout.readline())["rate"])
            found["torchvision"].append(epoch(loader))
            print({name: round(rates[-1]) for name, rates in found.items()}, file=sys.stderr, flush=True)
        # The workers hold the other end of its input too: it would wait for them.
        ours.terminate()
        ours.wait()
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    ratio = medians["meanflow"] / medians["torchvision"]
    print(json.dumps({"rounds": found, "medians": medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
