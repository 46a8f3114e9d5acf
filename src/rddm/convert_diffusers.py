"""From a DDPM's or DDIM's folder, as the ``diffusers`` package saves it, to a model of ours.

Such a folder has a ``unet/`` and a ``scheduler/``, or, as the oldest have it, the files of both side by side. The
network stays what it was (:mod:`rddm.nn.unet2d`); the scheduler becomes a row of the table (:mod:`rddm.hf`).
"""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rddm.convert import written
from rddm.errors import UserError
from rddm.hf import from_scheduler
from rddm.methods import Method
from rddm.model import Model, check_weights
from rddm.nn.unet2d import UNet2D, UNet2DConfig, completed
from rddm.spec import ModelSpec, with_card

NETWORK, SCHEDULER, PIPELINE = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PARTS = {"unet", "scheduler"}
RENAMED = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}  # attention, as the oldest files call it


def convert_diffusers(source: Path, out: Path) -> Model:
    """Write a diffusers folder as a model's folder, and return the model.

    Arguments:
        source: the folder that a DDPMPipeline or a DDIMPipeline was saved to.
        out: the folder to write; nothing of ``source`` is needed any more.

    Raises:
        UserError: if ``source`` is no such folder, if no row of the table or no network of ours is what it holds, if
            the weights do not fit, if diffusers is not installed, or if ``out`` cannot be written.
    """
    if source.resolve() == out.resolve():
        raise UserError(f"{out}: found the folder to convert itself, expected another to write")
    check_parts(source)
    network, scheduler = part(source, "unet", NETWORK), part(source, "scheduler", SCHEDULER)
    config = read_config(scheduler)
    method, shape = method_of(config, scheduler), shape_of(network)
    name = source.resolve().name
    model = Model(ModelSpec(name, shape, method, side=shape.side))
    assert isinstance(model.net, UNet2D)
    weights, file = read_weights(network.parent)
    check_weights(model.net.unet.state_dict(), weights, file)
    model.net.unet.load_state_dict(weights)
    card = {
        "task": "generation with a network of diffusers",
        "data": "not stated in the checkpoint",
        "parameters": sum(value.numel() for value in weights.values()),
        "provenance": f"{name}, UNet2DModel with {config.get('_class_name', 'DDIMScheduler')}",
        "scheduler": config,
    }
    model.spec = with_card(model.spec, card)
    return written(model, out)


def check_parts(source: Path) -> None:
    """Check that a pipeline has no further part, such as the decoder of a latent diffusion.

    Raises:
        UserError: if it has one.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder, expected one of diffusers with unet/ and scheduler/")
    if not (source / PIPELINE).exists():
        return
    parts = {name for name, kind in read_config(source / PIPELINE).items() if isinstance(kind, list) and any(kind)}
    if parts - PARTS:
        found = ", ".join(sorted(parts - PARTS))
        raise UserError(f"{source / PIPELINE}: found {found}, expected a pipeline of unet and scheduler alone")


def part(source: Path, name: str, file: str) -> Path:
    """Return a part's configuration, in a folder of its own or beside the others.

    Raises:
        UserError: if there is none.
    """
    for path in (source / name / file, source / file):
        if path.is_file():
            return path
    raise UserError(f"{source}: found no {name}/{file}, expected a folder of diffusers with unet/ and scheduler/")


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: if the file cannot be read, or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        raise UserError(f"{path}: not JSON, expected a configuration of diffusers") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: found {type(found).__name__}, expected a configuration of diffusers")
    return found


def method_of(config: Mapping[str, Any], path: Path) -> Method:
    """Return the row that a scheduler's configuration says.

    Raises:
        UserError: if no row says it: another kind of scheduler, betas that are not known, variances that are learned.
    """
    try:
        return from_scheduler(config)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def shape_of(path: Path) -> UNet2DConfig:
    """Return the shape of the network that a configuration says.

    Raises:
        UserError: if it is no UNet2DModel, or one that sees or tells more than a noisy image and its noise.
    """
    fields = read_config(path)
    if fields.get("_class_name") != "UNet2DModel":
        raise UserError(f"{path}: _class_name: found {fields.get('_class_name')!r}, expected 'UNet2DModel'")
    try:
        shape = completed({name: value for name, value in fields.items() if not name.startswith("_")})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if shape.in_channels != shape.out_channels:
        found = f"{shape.in_channels} input channels for {shape.out_channels} output channels"
        raise UserError(f"{path}: {found}, expected as many: x_t alone, and one image of it")
    return shape


def read_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """Return a network's weights in float32 by their names of today, and the file they were read from.

    Raises:
        UserError: if there is no file, or it cannot be read.
    """
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder}: found no weights, expected {' or '.join(WEIGHTS)}")
    try:
        found = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(f"{file}: cannot be read as weights ({reason})") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{file}: found {type(found).__name__}, expected a dictionary of tensors")
    return {renamed(name): value.float() for name, value in found.items()}, file


def renamed(name: str) -> str:
    """Return a weight's name of today."""
    old = rf"(attentions\.\d+)\.({'|'.join(RENAMED)})\."
    return re.sub(old, lambda match: f"{match[1]}.{RENAMED[match[2]]}.", name)
