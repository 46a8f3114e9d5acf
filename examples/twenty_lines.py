"""The main job by hand: a path, a network, a denoiser and ``sample`` (whole photo, no tiles)."""

import sys

import numpy as np
import torch
from PIL import Image

import rddm
from rddm.preprocess import equalisation_tables, equalise, quantiles, thumbnail

model = rddm.load("low-light")
method = model.spec.method  # a row of the table: path, target, clock, gain
pixels = np.array(Image.open(sys.argv[1]).convert("RGB"))
tables = equalisation_tables(pixels)


def tensor(image: np.ndarray) -> torch.Tensor:
    """Return an image as a batch of one, in [-1, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1


x_in = tensor(pixels)
conditions = {
    "equalised": tensor(equalise(pixels, tables)),
    "quantiles": torch.from_numpy(quantiles(tables))[None],
    "thumbnail": torch.from_numpy(thumbnail(pixels, tables))[None],
}
denoiser = rddm.NetworkDenoiser(model.net, method, conditions)
noise = rddm.gaussian(torch.Generator().manual_seed(0))
with torch.inference_mode():
    x_0 = rddm.sample(denoiser, x_in, method.path.grid(2), rddm.SOLVERS["dpm++"], noise)
Image.fromarray(((x_0[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()).save(sys.argv[2])
