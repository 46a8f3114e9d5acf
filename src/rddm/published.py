"""Reads the checkpoints the authors' trainer writes, as networks of this package.

Such a file (``model-140.pt``) is a dictionary with ``step``, ``model``, optimiser states, ``ema`` and ``scaler``.
``model`` holds one diffusion object: its schedule tables under plain names (``alphas_cumsum`` ...) and its network
under ``model.``. ``ema`` holds two of them, ``online_model.`` (again the raw one) and ``ema_model.``, whose averaged
weights gave the results of Liu et al., "Residual Denoising Diffusion Models" (CVPR 2024). The file does not say what
architecture it holds; the names and shapes of its weights do.

The file is opened with ``weights_only=True``: it cannot run code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.nn.unet import UNet, UNetConfig

StateDict = dict[str, Tensor]

# A published key is a part, after the number of its network if it has one, then for stages a member, then a leaf.
# net is the network's number; decoder is the same but for a shared encoder, whose "ups" are the noise decoder.
PARTS = (
    (r"init_conv\.", "encoders.{net}.stem."),
    (r"time_mlp\.1\.", "encoders.{net}.clock.expand."),
    (r"time_mlp\.3\.", "encoders.{net}.clock.project."),
    (r"downs\.(\d+)\.", r"encoders.{net}.stages.\1."),
    (r"mid_block1\.", "encoders.{net}.middle.first."),
    (r"mid_attn\.fn\.", "encoders.{net}.middle.attention."),
    (r"mid_block2\.", "encoders.{net}.middle.second."),
    (r"ups_no_skip\.(\d+)\.", r"decoders.0.stages.\1."),
    (r"final_res_block_1\.", "decoders.0.last."),
    (r"final_res_block_2\.", "decoders.1.last."),
    (r"final_conv_1\.", "decoders.0.head."),
    (r"final_conv_2\.", "decoders.1.head."),
    (r"ups\.(\d+)\.", r"decoders.{decoder}.stages.\1."),
    (r"final_res_block\.", "decoders.{decoder}.last."),
    (r"final_conv\.", "decoders.{decoder}.head."),
)
MEMBERS = (
    (r"0\.", "first."),
    (r"1\.", "second."),
    (r"2\.fn\.", "attention."),
    (r"3\.(?:1\.)?", "resize."),
)
LEAVES = (
    (r"mlp\.1\.", "modulation."),
    (r"block([12])\.proj\.", r"conv\1."),
    (r"block([12])\.norm\.", r"norm\1."),
    (r"res_conv\.", "shortcut."),
    (r"norm\.g$", "norm.gain"),
    (r"fn\.to_qkv\.", "qkv."),
    (r"fn\.to_out\.1\.g$", "out_norm.gain"),
    (r"fn\.to_out\.(?:0\.)?", "out."),
)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What an authors' checkpoint holds, in this package's names.

    Args:
        step: number of optimiser steps taken.
        raw: weights of the network as trained, to be loaded into ``UNet(unet_config)``.
        ema: the averaged weights, which the published results use.
        buffers: the averaged copy's schedule tables (``alphas_cumsum``, ``betas2_cumsum`` ..., each (T,)) and, where
            the objective was chosen automatically, the scalar ``alpha_res``.
        unet_config: the architecture, inferred from the weights.
    """

    step: int
    raw: StateDict
    ema: StateDict
    buffers: StateDict
    unet_config: UNetConfig


def read_published(path: str | Path) -> PublishedCheckpoint:
    """Read a checkpoint of the authors' trainer, or raise UserError saying what is wrong with the file."""
    content = _load(Path(path))
    raw, _ = _network(content["model"], "model", path)
    ema, buffers = _network(content["ema"], "ema", path, prefix="ema_model.")
    config = infer_config(ema, f"{path}: ema")
    if infer_config(raw, f"{path}: model") != config:
        raise UserError(f"{path}: model and ema hold different architectures, expected the same")
    return PublishedCheckpoint(content["step"], raw, ema, buffers, config)


def rename(state_dict: Mapping[str, Tensor], where: str = "state dict") -> StateDict:
    """Give the weights of a published Unet or UnetRes the names they have in ``UNet``; tensors are not copied."""
    shared = any(key.startswith("ups_no_skip.") for key in state_dict)
    renamed: StateDict = {}
    for key, value in state_dict.items():
        name = rename_key(key, shared)
        if name is None or name in renamed:
            raise UserError(f"{where}: found key {key!r}, expected only those of the published UNet, each once")
        renamed[name] = value
    return renamed


def rename_key(key: str, shared_encoder: bool = False) -> str | None:
    """Return our name of one published key, or None for a key the published UNet does not have."""
    net = "1" if key.startswith("unet1.") else "0"
    part, rest = _translate(PARTS, re.sub(r"^unet[01]\.", "", key))
    if "stages" in part:
        member, rest = _translate(MEMBERS, rest)
        part = part + member if member else ""
    leaf, rest = _translate(LEAVES, rest)
    name = part + leaf + rest
    if not part or not name.endswith((".weight", ".bias", ".gain")):
        return None
    return name.replace("{net}", net).replace("{decoder}", "1" if shared_encoder else net)


def infer_config(state_dict: Mapping[str, Tensor], where: str = "state dict") -> UNetConfig:
    """Find the architecture whose weights have exactly these names (ours) and shapes, or raise UserError."""
    try:
        stem, expand = state_dict["encoders.0.stem.weight"], state_dict["encoders.0.clock.expand.weight"]
        out_channels, dim = state_dict["decoders.0.head.bias"].shape[0], expand.shape[1]
        resizes = [state_dict[key].shape[0] for key in _numbered(state_dict, "encoders.0.stages.{}.resize.bias")]
        mults = tuple(width // dim for width in resizes)
        config = UNetConfig(stem.shape[1], out_channels, dim, mults, _heads(state_dict))
    except KeyError as error:
        raise UserError(f"{where}: no weights for {error.args[0]}, expected those of a published UNet") from None
    except (IndexError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{where}: weights fit no published UNet: {error}") from None
    _check(state_dict, config, where)
    return config


def _translate(table: tuple[tuple[str, str], ...], text: str) -> tuple[str, str]:
    """Replace the start of the text by the first rule that matches it; return the replacement and what is left."""
    for pattern, replacement in table:
        match = re.match(pattern, text)
        if match:
            return match.expand(replacement), text[match.end() :]
    return "", text


def _numbered(state_dict: Mapping[str, Tensor], template: str) -> list[str]:
    """List the keys template.format(0), template.format(1), ... up to the first that is absent."""
    keys: list[str] = []
    while template.format(len(keys)) in state_dict:
        keys.append(template.format(len(keys)))
    return keys


def _heads(state_dict: Mapping[str, Tensor]) -> str:
    if any(key.startswith("encoders.1.") for key in state_dict):
        return "two_nets"
    return "shared_encoder" if any(key.startswith("decoders.1.") for key in state_dict) else "one"


def _check(state_dict: Mapping[str, Tensor], config: UNetConfig, where: str) -> None:
    """Raise UserError at the first weight that is absent, superfluous, misshapen or not finite."""
    with torch.device("meta"):
        expected = UNet(config).state_dict()
    for key in sorted(expected.keys() | state_dict.keys()):
        if key not in state_dict:
            raise UserError(f"{where}: no weights for {key}, expected shape {tuple(expected[key].shape)}")
        if key not in expected:
            raise UserError(f"{where}: weights for {key}, expected none in {config}")
        found, wanted = tuple(state_dict[key].shape), tuple(expected[key].shape)
        if found != wanted:
            raise UserError(f"{where}: {key} has shape {found}, expected {wanted} in {config}")
        if not state_dict[key].isfinite().all():
            raise UserError(f"{where}: {key} holds NaN or infinity, expected finite weights")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected a checkpoint of the authors' trainer") from None
    except Exception as error:  # The restricted unpickler meets garbage with errors of any type.
        reason = str(error).strip().split("\n")[0][:100]
        raise UserError(f"{path}: not a checkpoint of the authors' trainer, cannot be loaded: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a dictionary with step, model and ema")
    for field, kind in (("step", int), ("model", dict), ("ema", dict)):
        if not isinstance(content.get(field), kind):
            found = type(content[field]).__name__ if field in content else "nothing"
            raise UserError(f"{path}: found {found} as {field!r}, expected {kind.__name__}")
    return content


def _network(entries: Mapping[str, Any], field: str, path: str | Path, prefix: str = "") -> tuple[StateDict, StateDict]:
    """Split one diffusion object of the file into its network's weights, renamed, and its own tables."""
    weights: StateDict = {}
    tables: StateDict = {}
    for key, value in entries.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {field}: {key} is a {type(value).__name__}, expected a tensor")
        if key.startswith(f"{prefix}model."):
            weights[key[len(prefix) + len("model.") :]] = value
        elif key.startswith(prefix):
            tables[key[len(prefix) :]] = value
    for name in ("alphas_cumsum", "betas2_cumsum"):
        if name not in tables:
            raise UserError(f"{path}: {field}: no table {prefix}{name}, expected the schedule beside the network")
    return rename(weights, f"{path}: {field}"), tables
