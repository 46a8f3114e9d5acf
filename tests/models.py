"""Small models with random weights, for tests that need a network that does something."""

import torch

from rddm.clipping import CLIPS
from rddm.methods import METHODS
from rddm.model import Model
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.spec import ModelSpec


def restoring_model(config: CompactConfig | UNetConfig, clip: str = "none") -> Model:
    """Return a model for photos whose network has random weights, small enough to stay in range."""
    from dataclasses import replace

    inputs = ("x_in", "equalised") if config.in_channels == 9 else ("x_in",)
    context = ("quantiles",) if getattr(config, "context", 0) else ()
    method = replace(METHODS["rddm-res"], inputs=inputs, context=context, clip=CLIPS[clip])
    model = Model(ModelSpec("random", config, method))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.net.named_parameters():
        if parameter.ndim > 1:
            spread = 0.5 / parameter[0].numel() ** 0.5
            parameter.data = spread * torch.randn(parameter.shape, generator=generator)
        elif "bias" in name:
            parameter.data.zero_()
    return model.eval().requires_grad_(False)
