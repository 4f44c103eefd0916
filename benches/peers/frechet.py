"""Times the Fréchet distance of 10,000 features: this project beside torch-fidelity.

usage: frechet.py target/release/frechet [ROUNDS]

Makes two sets of random, correlated features (10,000 x 2048, float32), gives both sides the
same numbers, and lets them take turns: statistics of both sets, then the distance. Prints the
medians of the seconds as one JSON object.

Needs torch 2.11.0, torch-fidelity 0.4.0, numpy and safetensors.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from safetensors.torch import save_file
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric


def features(seed, shift):
    """Not negative and with a decaying spectrum, as pooled features are."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(2048, 2048)) * (1 + np.arange(2048)[:, None]) ** -0.5
    x = rng.normal(size=(10000, 2048)) @ mix * 0.1 + 0.4 + shift
    return torch.from_numpy(np.maximum(x, 0).astype(np.float32))


def peer(x, y):
    start = time.perf_counter()
    a, b = fid_features_to_statistics(x), fid_features_to_statistics(y)
    middle = time.perf_counter()
    # Means of float32 features are float32 there; the call wants one type.
    distance = fid_statistics_to_metric(a, b, False)["frechet_inception_distance"]
    end = time.perf_counter()
    return {"seconds": end - start, "statistics": middle - start, "distance": distance}


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    x, y = features(1, 0.0), features(2, 0.02)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "features.safetensors")
        save_file({"x": x, "y": y}, path)
        ours = subprocess.Popen([sys.argv[1], path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert ours.stdout.readline().strip() == "ready"
        found = {"meanflow": [], "torch-fidelity": []}
        for _ in range(rounds):
            ours.stdin.write("run\n")
            ours.stdin.flush()
            found["meanflow"].append(json.loads(ours.stdout.readline()))
            found["torch-fidelity"].append(peer(x, y))
        ours.stdin.close()
        ours.wait()
    medians = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for side, runs in found.items()
    }
    medians["ratio"] = medians["torch-fidelity"]["seconds"] / medians["meanflow"]["seconds"]
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
