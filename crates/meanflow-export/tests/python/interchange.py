"""Compares PyTorch and onnxruntime with what the program drew: every folder that `examples/interchange.rs` wrote.

Prints the largest difference of each, and fails beyond TOLERANCE. With --fixture it writes what the tests of this crate compare with where there
is no Python: the tensors that the loader wants, and what it draws.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file, save_file

# A few dozen roundings of f32, of states of order one.
TOLERANCE = 1e-5


def loader(folder):
    spec = importlib.util.spec_from_file_location("modeling_meanflow", folder / "modeling_meanflow.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_pytorch(folder, expected):
    """The loader's samples, and the largest difference from the program's, of the noise too."""
    model = loader(folder).MeanFlow.from_pretrained(folder)
    noise = model.noise([int(seed) for seed in expected["seeds"]])
    worst, samples = (noise - expected["noise"]).abs().max().item(), {}
    for steps in (1, 2):
        samples[f"samples_{steps}"] = model.sample(noise, expected.get("labels"), steps=steps)
        worst = max(worst, (samples[f"samples_{steps}"] - expected[f"samples_{steps}"]).abs().max().item())
    shapes = {name: list(tensor.shape) for name, tensor in model.network.state_dict().items()}
    return worst, samples, shapes


def by_onnxruntime(folder, expected):
    """The largest difference of the graph's samples, for several sizes of the batch."""
    worst = 0.0
    for steps in (1, 2):
        path = folder / f"model_{steps}.onnx"
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        inputs = {name: expected[name].numpy() for name in ("noise", "labels") if name in expected}
        assert [one.name for one in session.get_inputs()] == list(inputs), "the inputs of a graph"
        # A graph of latents goes on to their pictures.
        all_rows = expected.get(f"pictures_{steps}", expected[f"samples_{steps}"]).numpy()
        # One row, some, all, and more than the graph was recorded with.
        for rows in ([0], [3, 1], list(range(len(all_rows))), [2] * 17):
            (got,) = session.run(["sample"], {name: values[rows] for name, values in inputs.items()})
            worst = max(worst, np.abs(got - all_rows[rows]).max().item())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fixture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed, drawn, wanted = False, {}, {}
    print(f"{'model':<16} {'PyTorch':>9} {'onnxruntime':>12}")
    for folder in sorted(arguments.folder.iterdir()):
        expected = load_file(folder / "expected.safetensors")
        pytorch, samples, wanted[folder.name] = by_pytorch(folder, expected)
        graph = by_onnxruntime(folder, expected)
        drawn |= {f"{folder.name}.{name}": tensor for name, tensor in samples.items()}
        print(f"{folder.name:<16} {pytorch:>9.1e} {graph:>12.1e}")
        failed |= not max(pytorch, graph) <= TOLERANCE
    if arguments.fixture:
        save_file(drawn, arguments.fixture / "pytorch.safetensors")
        (arguments.fixture / "pytorch_tensors.json").write_text(json.dumps(wanted, indent=1) + "\n")
    if failed:
        sys.exit(f"beyond {TOLERANCE}")


if __name__ == "__main__":
    main()
