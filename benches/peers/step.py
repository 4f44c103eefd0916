"""The PyTorch rivals of `cargo xtask bench step` and `peers`.

* `pytorch_plain`: flow matching;
* `pytorch_func_jvp`: one `torch.func.jvp` gives u, through which the gradient goes, and du/dt;
* `pytorch_two_pass`: du/dt without a tape, then a second forward for the gradient;
* `pytorch_compiled`: the loss of `pytorch_func_jvp` under `torch.compile`.

Guidance is dense: its forwards take all rows, as in the public ports.

On cpu the peak memory is that of the process during one step, from a trimmed heap
(trimming before timed steps would make them pay for the page faults); on cuda the
allocator's.

`--precision` is that of the timed steps: `tf32` lets products of f32 round their factors on
a CUDA device, `bf16` computes under autocast. The proof is in f32 in any case.
"""

import copy
import ctypes

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import rival
from networks import network


class Trainer:
    """Network, optimiser, EMA and one fixed batch of data."""

    def __init__(self, size, guidance, device):
        torch.manual_seed(0)
        self.size, self.device = size, device
        self.omega, self.kappa = rival.GUIDANCE[guidance]
        self.net = network(size).to(device)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(),
            lr=rival.RATE,
            betas=rival.BETAS,
            eps=rival.EPSILON,
            weight_decay=0.0,
            fused=True,
        )
        shape = (size.batch, size.channels, size.side, size.side)
        self.data = torch.randn(shape, device=device)
        self.labels = torch.randint(size.classes, (size.batch,), device=device)
        self.work = None
        self.precision = "f32"

    def draw(self):
        """data, noise, r, t, labels, dropped; a fixed count of rows has r < t."""
        b, device = self.size.batch, self.device
        first, second = torch.sigmoid(torch.randn(2, b, device=device) - 0.4)
        t = torch.maximum(first, second)
        jump = torch.arange(b, device=device) < b - int(b * (1 - rival.JUMP_SHARE))
        r = torch.where(jump, torch.minimum(first, second), t)
        dropped = torch.rand(b, device=device) < rival.LABEL_DROP
        return self.data, torch.randn_like(self.data), r, t, self.labels, dropped

    def step(self, loss_of):
        """One update: loss, backward, AdamW, EMA."""
        rounds = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=rounds):
            loss, _ = loss_of(*self.draw())
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
            1 - rival.EMA_DECAY,
        )

    def plain(self, x, e, r, t, labels, dropped):
        """Flow matching: r = t everywhere."""
        z, v = path(x, e, t)
        u = self.u(z, t, t, self.given(labels, dropped))
        return adaptive(u, v, v)

    def func_jvp(self, x, e, r, t, labels, dropped):
        """MeanFlow in a single pass."""
        z, v = path(x, e, t)
        target = self.guided(z, t, v, labels, dropped)
        u, du_dt = self.jvp(z, r, t, target, self.given(labels, dropped))
        return adaptive(u, target - wide(t - r) * du_dt, v)

    def two_pass(self, x, e, r, t, labels, dropped):
        """MeanFlow with a second forward."""
        z, v = path(x, e, t)
        label = self.given(labels, dropped)
        target = self.guided(z, t, v, labels, dropped)
        with torch.no_grad():
            _, du_dt = self.jvp(z, r, t, target, label)
        return adaptive(self.u(z, r, t, label), target - wide(t - r) * du_dt, v)

    def u(self, z, r, t, label):
        """The network, counted while somebody counts."""
        if self.work is not None:
            self.work.forwards += len(z)
            self.work.taped += len(z) if torch.is_grad_enabled() else 0
        return self.net(z, r, t, label)

    def jvp(self, z, r, t, v, label):
        """u and du/dt along (v, 0, 1); the zeros are a tensor, or the compiler would drop them."""
        if self.work is not None:
            self.work.tangents += len(z)
        tangents = (v, torch.zeros_like(r), torch.ones_like(t))
        # The fused attention kernels have no forward-mode rule.
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.jvp(
                lambda z, r, t: self.u(z, r, t, label), (z, r, t), tangents
            )

    @torch.no_grad()
    def guided(self, z, t, v, labels, dropped):
        """The guided velocity; v itself in rows without a class."""
        if self.omega == 1 and self.kappa == 0:
            return v
        null = torch.full_like(labels, self.size.classes)
        mixed = self.omega * v + (1 - self.omega - self.kappa) * self.u(z, t, t, null)
        if self.kappa:
            mixed = mixed + self.kappa * self.u(z, t, t, labels)
        return torch.where(wide(dropped), v, mixed)

    def given(self, labels, dropped):
        """The labels that training sees."""
        return torch.where(dropped, self.size.classes, labels)


def wide(x):
    """(B,) against pictures."""
    return x[:, None, None, None]


def path(x, e, t):
    """z and v of the linear path."""
    return (1 - wide(t)) * x + wide(t) * e, e - x


def adaptive(u, target, v):
    """The loss (p = 1, sum over pixels), and |u - v|^2 of every row."""
    distance = (u - target.detach()).square().flatten(1).sum(1)
    loss = (distance / (distance.detach() + rival.ADAPTIVE_C)).mean()
    return loss, (u.detach() - v).square().flatten(1).sum(1)


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


class Torch:
    """The rivals."""

    def __init__(self, options):
        device = torch.device(options.device)
        self.trainer = trainer = Trainer(options.size, options.guidance, device)
        self.cuda = device.type == "cuda"
        self.memory = CudaMemory() if self.cuda else CpuMemory()
        trainer.precision = options.precision
        allow_tf32(options.precision == "tf32")
        self.losses = {
            "pytorch_plain": trainer.plain,
            "pytorch_func_jvp": trainer.func_jvp,
            "pytorch_two_pass": trainer.two_pass,
            "pytorch_compiled": torch.compile(trainer.func_jvp, dynamic=False),
        }
        self.variants = options.variants or list(self.losses)

    def warm(self, name):
        for _ in range(rival.WARM_UP_STEPS):
            self.step(name)
        self.memory.restart()
        self.step(name)
        return {"peak_mib": self.memory.peak_mib(), "units": self.units(name)}

    def units(self, name):
        """Counted in the loss as it was written, before any compiler."""
        eager = {"pytorch_compiled": self.trainer.func_jvp}
        work = self.trainer.work = rival.Work()
        eager.get(name, self.losses[name])(*self.trainer.draw())
        self.trainer.work = None
        return work.units(self.trainer.size.batch)

    def step(self, name):
        self.trainer.step(self.losses[name])
        if self.cuda:
            torch.cuda.synchronize()

    def errors(self, proof, name):
        return proof.errors(*self.gradients(proof, name))

    def gradients(self, proof, name):
        net, tensor = self.trainer.net, torch.from_numpy
        net.load_state_dict({k: tensor(v) for k, v in proof.part("weight.").items()})
        batch = {k: tensor(v).to(self.trainer.device) for k, v in proof.part("batch.").items()}
        batch["dropped"] = batch["dropped"].bool()
        names = ("data", "noise", "r", "t", "labels", "dropped")
        allow_tf32(False)
        loss, v_loss = self.losses[name](*(batch[k] for k in names))
        net.zero_grad(set_to_none=True)
        loss.backward()
        gradients = {k: p.grad.cpu().numpy() for k, p in net.named_parameters()}
        net.zero_grad(set_to_none=True)
        allow_tf32(self.trainer.precision == "tf32")
        return loss.item(), v_loss.cpu().numpy(), gradients


def allow_tf32(allowed):
    """Whether products and convolutions of f32 may use TF32; libtorch starts with convolutions only."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def main():
    options = rival.options(__doc__.splitlines()[0])
    if options.threads:
        torch.set_num_threads(options.threads)
    # Ours computes in f32; PyTorch starts with TF32 in convolutions.
    torch.backends.cudnn.allow_tf32 = False
    rival.serve(Torch(options))


if __name__ == "__main__":
    main()
