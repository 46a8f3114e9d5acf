"""From the authors' checkpoints to models of ours: names, schedule and conventions of the published code, kept."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from rddm.clipping import published_res, published_res_eps, published_x_0
from rddm.clocks import Clock, abar_clock, bbar_clock, index_clock, plane_clock
from rddm.errors import UserError
from rddm.methods import METHODS
from rddm.model import Model
from rddm.path import Path as Curve
from rddm.prediction import EPS_FLOORED, RES, RES_EPS, RES_SUM, X0_EPS, X0_SUM, Target
from rddm.published import PublishedCheckpoint, read_published
from rddm.schedules import PowerPath, TablePath
from rddm.spec import ModelSpec

OBJECTIVES = {
    "pred_res": (RES, published_res),
    "pred_noise": (EPS_FLOORED, published_x_0),
    "pred_res_noise": (RES_EPS, published_res_eps),
    "pred_x0_noise": (X0_EPS, published_x_0),
    "pred_res_add_noise": (RES_SUM, published_res_eps),
    "pred_x0_add_noise": (X0_SUM, published_x_0),
}


def convert_published(
    source: Path, out: Path, weights: str = "ema", objective: str = "auto", equalise: bool = False
) -> Model:
    """Write a published checkpoint as a model's folder, and return the model.

    Arguments:
        source: the authors' ``model-N.pt``.
        out: the folder to write.
        weights: "ema", which the published results use, or "raw".
        objective: what the network predicts, as the authors name it. The file does not say: "auto" takes ``pred_res``
            for one output and ``pred_res_noise`` for two, the published defaults for restoration.
        equalise: whether the input was histogram-equalised in training; the file does not say that either.

    Raises:
        UserError: if the file is no such checkpoint, the objective does not fit, or the folder cannot be written.
    """
    checkpoint = read_published(source)
    spec = published_spec(checkpoint, source, weights, objective, equalise)
    model = Model(spec)
    model.net.load_state_dict(checkpoint.ema if weights == "ema" else checkpoint.raw)
    return written(model, out)


def written(model: Model, out: Path) -> Model:
    """Write a model's folder, and return the model, ready to be asked.

    Raises:
        UserError: if the folder cannot be written.
    """
    model.eval().requires_grad_(False)
    try:
        model.save_pretrained(out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}), expected a folder for the model") from None
    return model


def published_spec(
    checkpoint: PublishedCheckpoint, source: Path, weights: str, objective: str, equalise: bool
) -> ModelSpec:
    """Return the specification of a published checkpoint."""
    config = checkpoint.unet_config
    if objective == "auto":
        objective = "pred_res" if config.outputs == 1 else "pred_res_noise"
    if objective not in OBJECTIVES:
        raise UserError(f"--objective: found {objective!r}, expected auto, {', '.join(OBJECTIVES)}")
    target, clip = OBJECTIVES[objective]
    if target.heads != config.outputs:
        raise UserError(f"{source}: network of {config.outputs} outputs, expected {target.heads} for {objective}")
    images, rest = divmod(config.in_channels, config.out_channels)
    if rest or not 1 <= images <= 3:
        found = f"{config.in_channels} input channels for {config.out_channels} output channels"
        raise UserError(f"{source}: {found}, expected x_t alone, with x_in, or with x_in and a mask")
    method = replace(
        METHODS["rddm"],
        name=f"rddm-{target.name}",
        path=published_path(checkpoint.buffers),
        target=target,
        origin="input" if images > 1 else "zero",
        inputs=((), ("x_in",), ("x_in", "mask"))[images - 1],
        clock=index_clock if images > 1 else published_clock(target),
        clip=clip,
        steps={RES: 2}.get(target, 5),
    )
    card = {
        "task": "restoration with an authors' network" if images > 1 else "generation with an authors' network",
        "data": "not stated in the checkpoint",
        "parameters": sum(value.numel() for value in checkpoint.ema.values()),
        "provenance": f"{source.name}, {weights} weights after {checkpoint.step} steps, objective {objective}",
        "trained_at": "images resized to 256x256 in the published settings",
    }
    return ModelSpec(source.stem, config, method, "equalise" if equalise else "none", card)


def published_clock(target: Target) -> Clock:
    """Return what the published generators are shown: the place in the plane, one network its own coordinate."""
    if target.heads == 2:
        return plane_clock
    return bbar_clock if target is EPS_FLOORED else abar_clock


def published_path(buffers: dict[str, Tensor]) -> Curve:
    """Return the path that a checkpoint's tables hold: a power schedule where they are one, else the tables."""
    abar, bbar2 = buffers["alphas_cumsum"].double(), buffers["betas2_cumsum"].double()
    known = PowerPath(noise=round(float(bbar2[-1]), 6), steps=len(abar))
    for candidate in (known, replace(known, spacing="linspace")):
        tables = candidate.tables()
        if max(float((a - b).abs().max()) for a, b in zip(tables, (abar, bbar2))) < 1e-7:
            return candidate
    return TablePath(tuple(abar.tolist()), tuple(bbar2.tolist()))
