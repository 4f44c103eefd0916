"""Makes the goldens of the VAE with diffusers' own AutoencoderKL and random parameters.

    pip install torch==2.11.0 diffusers==0.42.1 safetensors==0.8.0 numpy
    python vae.py small FOLDER     # vae_a: committed
    python vae.py full FOLDER      # vae_sd: Stable Diffusion's size on pictures of 256×256, 335 MB, not committed
    python vae.py shapes FILE      # name and shape of every tensor of Stable Diffusion's size: committed

FOLDER/NAME/ is what `save_pretrained` writes; FOLDER/NAME.safetensors holds inputs, and results in f64;
FOLDER/NAME.json the versions, and how far diffusers itself in f32 is from them.
`meanflow check golden FOLDER/NAME.safetensors` compares.
"""

import json
import sys
from pathlib import Path

import diffusers
import safetensors
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

# Sizes that differ from each other wherever they could be mixed up.
SMALL = dict(
    in_channels=3, out_channels=3, latent_channels=2, block_out_channels=(4, 8, 12), layers_per_block=2,
    norm_num_groups=4, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    scaling_factor=0.5, shift_factor=0.25, sample_size=16,
)
# The configuration of the published VAE of Stable Diffusion 1.
FULL = dict(
    in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(128, 256, 512, 512), layers_per_block=2,
    norm_num_groups=32, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    scaling_factor=0.18215, sample_size=256,
)


def randomise(vae, generator):
    """Every parameter random, so that none can be left out: weights by fan-in, norms around 1, biases too."""
    for name, parameter in vae.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            noise *= parameter[0].numel() ** -0.5
        elif name.endswith("weight"):
            noise = 1 + 0.3 * noise
        else:
            noise *= 0.3
        parameter.data.copy_(noise)


@torch.no_grad()
def results(vae, pictures, latents):
    law = vae.encode(pictures).latent_dist
    return {"out/mean": law.mean, "out/logvar": law.logvar, "out/decoded": vae.decode(latents).sample}


def golden(folder, name, config, pictures_shape):
    generator = torch.Generator().manual_seed(0)
    vae = AutoencoderKL(**config).eval()
    randomise(vae, generator)
    vae.save_pretrained(folder / name, safe_serialization=True)
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    rows, _, height, width = pictures_shape
    pictures = torch.rand(pictures_shape, generator=generator) * 2 - 1
    latents = torch.randn((rows, config["latent_channels"], height // factor, width // factor), generator=generator)
    single = results(vae, pictures, latents)
    double = results(vae.double(), pictures.double(), latents.double())
    errors = {key: float((single[key] - exact).norm() / exact.norm()) for key, exact in double.items()}
    tensors = {"in/pictures": pictures, "in/latents": latents, **double}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
    description = {
        "name": name, "file": f"{name}.safetensors", "what": "AutoencoderKL with random parameters",
        "source": {"package": "diffusers", "licence": "Apache-2.0", "script": "vae.py"},
        "versions": {"diffusers": diffusers.__version__, "torch": torch.__version__, "safetensors": safetensors.__version__},
        "config": {"folder": name}, "relative_error_of_diffusers_in_f32": errors,
    }
    (folder / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")
    print(json.dumps(errors))


def shapes(path):
    vae = AutoencoderKL(**FULL)
    lines = [f"{name} {list(tensor.shape)}" for name, tensor in sorted(vae.state_dict().items())]
    count = sum(tensor.numel() for tensor in vae.state_dict().values())
    header = f"# diffusers {diffusers.__version__}, AutoencoderKL of Stable Diffusion 1: {count} parameters"
    path.write_text("\n".join([header, *lines]) + "\n")


def main():
    what, path = sys.argv[1], Path(sys.argv[2])
    if what == "small":
        golden(path, "vae_a", SMALL, (2, 3, 16, 24))
    elif what == "full":
        golden(path, "vae_sd", FULL, (1, 3, 256, 256))
    elif what == "shapes":
        shapes(path)
    else:
        sys.exit(__doc__)


main()
