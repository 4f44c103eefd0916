"""Times what several processes cost on one machine: this project beside PyTorch's own, over Gloo on loopback.

usage: processes.py sum    target/release/sum      [--processes 2] [--rounds 11] [--numbers 10000000]
       processes.py step   target/release/meanflow [--rounds 5] [--steps 60] [--width 96] [--depth 4] [--batch 128]
       processes.py memory target/release/meanflow [--processes 4] [--width 576] [--depth 6] [--steps 40]

`sum`: milliseconds of a sum of f32 over all processes, in the fixed tree and in the engine's order (cargo build --release -p benches
--bin sum), and by torch.distributed.all_reduce. One group of processes after the other, round by round; the slowest rank counts.

`step`: milliseconds of a training step on two cores: one process with two threads, two processes with one each, in three ways; in
PyTorch one process with two threads, and two under DistributedDataParallel, whose module gives the loss with torch.func.jvp inside;
and two that add all gradients up behind the backward pass, where DistributedDataParallel does so beside it.
Every round starts each once, one after the other; the median step of a start, without the first ten, is its time.

`memory`: resident MB of every process in the middle of a run, with every moment and average in every process and with
compute.shard_optimizer.

Prints one line a round on standard error and the medians as one JSON object. Needs torch, which is this Python's.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from string import Template

import torch
import torch.distributed as dist

HERE = Path(__file__).resolve()
WARM = 10


def environment(rank, world, port, threads):
    """What torchrun sets, and the threads of an operation."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    numbers |= {"OMP_NUM_THREADS": threads, "MASTER_ADDR": "127.0.0.1", "OMP_WAIT_POLICY": "passive"}
    return os.environ | {"GLOO_SOCKET_IFNAME": "lo"} | {name: str(value) for name, value in numbers.items()}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def started(command, world, threads=1):
    """The processes of a group, each of which reads lines and answers with lines."""
    port = free_port()
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command, env=environment(rank, world, port, threads), **pipe)
        for rank in range(world)
    ]


def asked(group, line):
    """The slowest answer."""
    for process in group:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return max(float(process.stdout.readline()) for process in group)


def medians(rounds):
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def told(one):
    shown = {name: round(value, 1) for name, value in one.items()}
    print(json.dumps(shown), file=sys.stderr, flush=True)
    return one


def sums(options):
    world, numbers = options.processes, options.numbers
    groups = [started([options.program], world), started([sys.executable, HERE, "rank-sum"], world)]
    for process in sum(groups, []):
        assert process.stdout.readline().strip() == "ready"
    ours, theirs = groups
    ways = {"tree": ours, "fastest": ours, "torch all_reduce": theirs}

    def one(_):
        return {way: asked(group, f"{way.split()[0]} {numbers}") for way, group in ways.items()}

    one(0)
    rounds = [told(one(number)) for number in range(options.rounds)]
    for process in sum(groups, []):
        process.stdin.close()
    for process in sum(groups, []):
        process.wait()
    found = medians(rounds)
    speed = {way: 4e-6 * numbers / ms for way, ms in found.items()}
    print(json.dumps({"processes": world, "ms": found, "GB/s": speed}))


def rank_sum():
    """PyTorch's side of `sum`, one rank."""
    dist.init_process_group("gloo")
    print("ready", flush=True)
    for line in sys.stdin:
        x = torch.ones(int(line.split()[1]))
        dist.barrier()
        begun = time.perf_counter()
        dist.all_reduce(x)
        print(1e3 * (time.perf_counter() - begun), flush=True)
        assert x[0] == dist.get_world_size()
    dist.destroy_process_group()


RECIPE = """
seed = 0
data = { kind = "digits", conditional = true }
network = { kind = "dit", patch = 2, width = $width, depth = $depth, heads = 4, mlp_ratio = 4.0, embedding = "th" }
path = { kind = "linear" }
optimizer = { kind = "adamw", beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.0 }
lr = { schedule = "constant", peak = 1e-4, warmup_steps = 0 }
loss = { norm_p = 1.0, norm_eps = 0.01, reduction = "sum" }
class_dropout = { prob = 0.1, rows = "independent" }
ema = { decays = [$emas] }
training = { batch_size = $batch, microbatches = $microbatches, steps = $steps, checkpoint_every = $steps, sample_every = $steps, log_every = 1 }
sampling = { grid = [1, 1], nfe = [1] }

[times]
t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
mean_flow_ratio = { count = 0.25 }
order = "before-ordering"
"""


def recipe(folder, **values):
    path = folder / "recipe.toml"
    path.write_text(Template(RECIPE).substitute(values))
    return path


def of_metrics(run):
    """The median time of a step, from what a run logs."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    return 1e3 * statistics.median(b - a for a, b in zip(seconds[WARM:], seconds[WARM + 1 :]))


def steps(options):
    program, both = options.program, {"training.microbatches": 2}
    ways = {
        "one process": (1, {}),
        "two processes": (2, {}),
        "two, fastest": (2, {"compute.gradient_sum": "fastest"}),
        "two, shard_optimizer": (2, {"compute.shard_optimizer": "true"}),
    }
    rounds = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        numbers = {"width": options.width, "depth": options.depth, "batch": options.batch}
        file = recipe(folder, **numbers, steps=options.steps, microbatches=2, emas=0.9999)

        def ours(name):
            world, settings = ways[name]
            run = folder / f"{len(rounds)}-{name.replace(' ', '-')}"
            sets = [word for key, value in (both | settings).items() for word in ("--set", f"{key}={value}")]
            launch = ["launch", "--processes", str(world), "--"] if world > 1 else []
            command = [program, *launch, "train", str(file), *sets, "--out", str(run)]
            quiet = os.environ | {"OMP_WAIT_POLICY": "passive"}
            subprocess.run(command, check=True, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return of_metrics(run)

        def theirs(world, when="beside"):
            words = [str(value) for value in (options.width, options.depth, options.batch, options.steps)]
            group = started([sys.executable, HERE, "rank-step", when, *words], world, 2 // world)
            times = [float(process.communicate()[0]) for process in group]
            return max(times)

        for _ in range(options.rounds):
            one = {name: ours(name) for name in ways}
            one["torch, one process"] = theirs(1)
            one["torch, DDP of two"] = theirs(2)
            one["torch, two, summed after"] = theirs(2, "after")
            rounds.append(told(one))
    found = medians(rounds)
    print(json.dumps({"ms": found, "rounds": rounds}))


class Loss(torch.nn.Module):
    """The loss as a module: what DistributedDataParallel wraps, so that its hooks see the backward pass."""

    def __init__(self, trainer):
        super().__init__()
        self.net, self.trainer = trainer.net, [trainer]

    def forward(self, *batch):
        return self.trainer[0].func_jvp(*batch)[0]


def add_up(gradients, world):
    """What DistributedDataParallel does beside the backward pass, in one go behind it."""
    whole = torch.cat([one.flatten() for one in gradients]).div_(world)
    dist.all_reduce(whole)
    parts = whole.split([one.numel() for one in gradients])
    torch._foreach_copy_(gradients, [part.view_as(one) for part, one in zip(parts, gradients)])


def rank_step(when, width, depth, batch, count):
    """PyTorch's side of `step`, one rank: prints the median time of a step."""
    import rival
    import step

    world = int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    size = rival.size("digits", batch=batch // world)
    size.network.width, size.network.depth = width, depth
    trainer = step.Trainer(size, "none", torch.device("cpu"))
    loss = Loss(trainer)
    if world > 1:
        dist.init_process_group("gloo")
        if when == "beside":
            loss = torch.nn.parallel.DistributedDataParallel(loss)

    def step_once():
        trainer.optimiser.zero_grad(set_to_none=True)
        loss(*trainer.draw()).backward()
        if when == "after":
            add_up([one.grad for one in trainer.net.parameters()], world)
        trainer.optimiser.step()
        trainer.follow()

    times = []
    for _ in range(count):
        begun = time.perf_counter()
        step_once()
        times.append(1e3 * (time.perf_counter() - begun))
    print(statistics.median(times[WARM:]), flush=True)
    if world > 1:
        dist.destroy_process_group()


def resident(process):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def memory(options):
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        numbers = {"width": options.width, "depth": options.depth, "batch": 8}
        file = recipe(folder, **numbers, steps=options.steps, microbatches=4, emas="0.999, 0.9999")
        for shards in ["false", "true"]:
            run = folder / shards
            launch = [options.program, "launch", "--processes", str(options.processes), "--", "train", str(file)]
            command = [*launch, "--set", f"compute.shard_optimizer={shards}", "--out", str(run)]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            launcher = subprocess.Popen(command, **quiet)
            metrics = run / "metrics.jsonl"
            while not (metrics.exists() and metrics.read_text().count("\n") >= options.steps // 2):
                assert launcher.poll() is None, "the run ended"
                time.sleep(0.05)
            children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
            found[f"shard_optimizer={shards}"] = [round(resident(child)) for child in children]
            assert launcher.wait() == 0
    print(json.dumps({"processes": options.processes, "resident MB": found}))


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "rank-sum":
        return rank_sum()
    if len(sys.argv) > 1 and sys.argv[1] == "rank-step":
        return rank_step(sys.argv[2], *map(int, sys.argv[3:]))
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("question", choices=["sum", "step", "memory"])
    parser.add_argument("program")
    asked_for = parser.parse_known_args()[0].question
    defaults = {
        "sum": {"processes": 2, "rounds": 11, "numbers": 10_000_000},
        "step": {"rounds": 5, "steps": 60, "width": 96, "depth": 4, "batch": 128},
        "memory": {"processes": 4, "steps": 40, "width": 576, "depth": 6},
    }
    for name, number in defaults[asked_for].items():
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    {"sum": sums, "step": steps, "memory": memory}[asked_for](options)


if __name__ == "__main__":
    main()
