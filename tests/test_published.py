"""Reading the authors' checkpoints: every golden file, and every way a file can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rddm.errors import UserError
from rddm.nn.unet import UNet, UNetConfig
from rddm.published import infer_config, read_published, rename, rename_key

STATE_DICTS = {
    "unet/exp2_unetres_share-1_mask.state_dict.safetensors": UNetConfig(9, 3, 16, (1, 2, 4), "one"),
    "unet/exp2_unetres_share0_cond.state_dict.safetensors": UNetConfig(6, 3, 16, (1, 2, 4), "two_nets"),
    "unet/exp2_unetres_share1_cond.state_dict.safetensors": UNetConfig(6, 3, 16, (1, 2, 4), "shared_encoder"),
    "sampling/weights_cond2.safetensors": UNetConfig(6, 3, 8, (1, 2), "two_nets"),
    "sampling/weights_mask2.safetensors": UNetConfig(9, 3, 8, (1, 2), "two_nets"),
    "sampling/weights_uncond2.safetensors": UNetConfig(3, 3, 8, (1, 2), "two_nets"),
    "sampling/weights_share1.safetensors": UNetConfig(6, 3, 8, (1, 2), "shared_encoder"),
}
KEY_LISTS = {
    "unet/full_dim64_cond.keys.json": UNetConfig(),
    "unet/full_dim64_cond_share1.keys.json": UNetConfig(heads="shared_encoder"),
}
# Step, architecture and the end of abar: exp0's tables were converted from a linear DDIM schedule and stop short of 1.
CHECKPOINTS = {
    "checkpoint/exp2_model-1.pt": (3, UNetConfig(6, 3, 16, (1, 2), "one"), 1.0),
    "checkpoint/exp0_two_net_model-1.pt": (12, UNetConfig(3, 3, 8, (1, 2), "two_nets"), 0.993647),
}


@pytest.mark.parametrize("file", STATE_DICTS)
def test_golden_state_dicts_fit_our_net(golden: Path, file: str) -> None:
    weights = load_file(golden / file)
    renamed = rename(weights)
    assert len(renamed) == len(weights)
    assert infer_config(renamed) == STATE_DICTS[file]
    UNet(STATE_DICTS[file]).load_state_dict(renamed, strict=True)


@pytest.mark.parametrize("file", KEY_LISTS)
def test_golden_key_lists_map_one_to_one(golden: Path, file: str) -> None:
    entries = json.loads((golden / file).read_text())
    shapes = {key: tuple(entry[0] if isinstance(entry[0], list) else entry) for key, entry in entries.items()}
    renamed = rename({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    with torch.device("meta"):
        expected = UNet(KEY_LISTS[file]).state_dict()
    assert {key: value.shape for key, value in renamed.items()} == {key: v.shape for key, v in expected.items()}
    assert len(renamed) == len(shapes)


@pytest.mark.parametrize("file", CHECKPOINTS)
def test_golden_checkpoints_load(golden: Path, file: str) -> None:
    checkpoint = read_published(golden / file)
    step, config, end = CHECKPOINTS[file]
    assert (checkpoint.step, checkpoint.unet_config) == (step, config)
    assert len(checkpoint.buffers) == 12
    assert all(table.shape == (1000,) for table in checkpoint.buffers.values())
    assert float(checkpoint.buffers["alphas_cumsum"][-1]) == pytest.approx(end, abs=1e-6)
    net = UNet(checkpoint.unet_config)
    for weights in (checkpoint.raw, checkpoint.ema):
        net.load_state_dict(weights, strict=True)
        outputs = net(torch.zeros(1, checkpoint.unet_config.in_channels, 16, 16), torch.tensor([77]))
        assert all(output.isfinite().all() for output in outputs)
    assert any(not torch.equal(checkpoint.raw[key], checkpoint.ema[key]) for key in checkpoint.raw)


@pytest.mark.parametrize("which", ["ema", "raw"])
@pytest.mark.parametrize("file", ["checkpoint/exp2_model-1.probe.safetensors"])
def test_golden_probe_of_the_checkpoint(golden: Path, file: str, which: str) -> None:
    checkpoint, probe = read_published(golden / "checkpoint/exp2_model-1.pt"), load_file(golden / file)
    net = UNet(checkpoint.unet_config)
    net.load_state_dict(getattr(checkpoint, which))
    with torch.no_grad():
        (output,) = net(probe["x"], probe["time"])
    expected = probe["out_ema" if which == "ema" else "out_online"]
    # Measured: 1.2e-6 (ema) and 9.1e-7 (raw), against the reference's float32.
    assert (output - expected).abs().max() / expected.abs().max() < 1e-5


def published_names(levels: int) -> list[str]:
    """Every name a published Unet of that many levels may have, and some it has not."""
    stages = [f"{way}.{level}" for way in ("downs", "ups") for level in range(levels)]
    blocks = ["mid_block1", "mid_block2", "final_res_block"] + [f"{s}.{i}" for s in stages for i in (0, 1)]
    members = ("mlp.1", "block1.proj", "block1.norm", "block2.proj", "block2.norm", "res_conv")
    attentions = ["mid_attn"] + [f"{stage}.2" for stage in stages]
    modules = ["init_conv", "time_mlp.1", "time_mlp.3", "final_conv", "mid_attn.fn.fn.to_out"]
    modules += [f"{block}.{member}" for block in blocks for member in members]
    modules += [f"{attention}.fn.fn.{leaf}" for attention in attentions for leaf in ("to_qkv", "to_out.0")]
    modules += [f"downs.{i}.3" for i in range(levels)] + [f"ups.{i}.3.1" for i in range(levels - 1)]
    gains = [f"{attention}.fn.{leaf}" for attention in attentions for leaf in ("norm.g", "fn.to_out.1.g")]
    return gains + [f"{name}.{kind}" for name in [*modules, f"ups.{levels - 1}.3"] for kind in ("weight", "bias")]


def small_checkpoint() -> dict[str, Any]:
    """A checkpoint as the authors' trainer would write it, of a one-network, two-level UNet."""
    weights = UNet(UNetConfig(dim=8, mults=(1, 2))).state_dict()
    names = {rename_key(name): name for name in published_names(2)}
    diffusion = {f"model.unet0.{names[key]}": value for key, value in weights.items()}
    diffusion |= {"alphas_cumsum": torch.linspace(0.1, 1, 10), "betas2_cumsum": torch.linspace(0.1, 1, 10)}
    ema = {f"{copy}.{key}": value.clone() for copy in ("online_model", "ema_model") for key, value in diffusion.items()}
    ema |= {"initted": torch.tensor([True]), "step": torch.tensor([7])}
    return {"step": 7, "model": diffusion, "opt": {}, "ema": ema, "scaler": None}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "model-1.pt"
    torch.save(content, path)
    return path


def test_a_checkpoint_gives_back_its_weights_and_tables(tmp_path: Path) -> None:
    content = small_checkpoint()
    content["model"]["model.unet0.init_conv.bias"] = torch.full((8,), 0.25)
    checkpoint = read_published(written(tmp_path, content))
    assert checkpoint.unet_config == UNetConfig(dim=8, mults=(1, 2)) and checkpoint.step == 7
    assert torch.equal(checkpoint.raw["encoders.0.stem.bias"], torch.full((8,), 0.25))
    assert not torch.equal(checkpoint.ema["encoders.0.stem.bias"], torch.full((8,), 0.25))
    assert set(checkpoint.buffers) == {"alphas_cumsum", "betas2_cumsum"}
    UNet(checkpoint.unet_config).load_state_dict(checkpoint.raw, strict=True)


def test_the_learned_objective_weight_is_kept_beside_the_tables(tmp_path: Path) -> None:
    content = small_checkpoint()
    content["model"]["alpha_res"], content["ema"]["ema_model.alpha_res"] = torch.tensor(0.4), torch.tensor(0.45)
    assert float(read_published(written(tmp_path, content)).buffers["alpha_res"]) == pytest.approx(0.45)


def drop(content: dict[str, Any], field: str, key: str) -> None:
    del content[field][key]


def put(content: dict[str, Any], field: str, key: str, value: object) -> None:
    content[field][key] = value


EMA = "ema_model.model.unet0."
MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no ema": (lambda c: c.pop("ema"), "found nothing as 'ema', expected dict"),
    "no step": (lambda c: c.pop("step"), "found nothing as 'step', expected int"),
    "model is a list": (lambda c: c.update(model=[1]), "found list as 'model', expected dict"),
    "no tables": (lambda c: drop(c, "ema", "ema_model.alphas_cumsum"), "no table ema_model.alphas_cumsum"),
    "no stem": (lambda c: drop(c, "ema", f"{EMA}init_conv.weight"), "no weights for encoders.0.stem.weight"),
    "no head": (lambda c: drop(c, "model", "model.unet0.final_conv.bias"), "no weights for decoders.0.head.bias"),
    "no block": (lambda c: drop(c, "ema", f"{EMA}downs.0.0.mlp.1.bias"), r"modulation.bias, expected shape \(16,\)"),
    "no levels": (lambda c: drop(c, "ema", f"{EMA}downs.0.3.bias"), "fit no published UNet"),
    "a scalar": (lambda c: put(c, "ema", f"{EMA}final_conv.bias", torch.tensor(1.0)), "fit no published UNet"),
    "odd shape": (lambda c: put(c, "ema", f"{EMA}mid_block1.res_conv.bias", torch.ones(4)), "expected none"),
    "wrong shape": (
        lambda c: put(c, "model", "model.unet0.mid_attn.fn.norm.g", torch.ones(1, 8, 1, 1)),
        r"has shape \(1, 8, 1, 1\), expected \(1, 16, 1, 1\)",
    ),
    "odd key": (lambda c: put(c, "model", "model.vgg.weight", torch.ones(4)), "found key 'vgg.weight'"),
    "twice": (lambda c: put(c, "model", "model.init_conv.bias", torch.ones(8)), "found key 'init_conv.bias'"),
    "no tensor": (lambda c: put(c, "model", "model.init_conv.bias", 3), "is a int, expected a tensor"),
    "NaN": (lambda c: put(c, "ema", f"{EMA}init_conv.bias", torch.full((8,), torch.nan)), "holds NaN or infinity"),
    "infinity": (lambda c: put(c, "model", "model.unet0.init_conv.bias", torch.full((8,), torch.inf)), "holds NaN"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_checkpoint_is_refused_in_one_line(tmp_path: Path, mistake: str) -> None:
    content = small_checkpoint()
    spoil, message = MISTAKES[mistake]
    spoil(content)
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=message) as raised:
        read_published(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken archive", b"\x80\x02."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model-1.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a checkpoint"):
        read_published(path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a checkpoint"):
        read_published(written(tmp_path, {"step": 1, "model": torch.nn.Linear(1, 1), "ema": {}}))


def test_absent_files_folders_and_bare_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_published(tmp_path / "absent.pt")
    with pytest.raises(UserError, match="not a checkpoint"):
        read_published(tmp_path)
    with pytest.raises(UserError, match="holds a Tensor, expected a dictionary"):
        read_published(written(tmp_path, torch.zeros(3)))


def test_architectures_of_the_two_copies_must_agree(tmp_path: Path) -> None:
    content = small_checkpoint()
    stem: Tensor = content["model"]["model.unet0.init_conv.weight"]
    content["model"]["model.unet0.init_conv.weight"] = stem[:, :3].clone()
    with pytest.raises(UserError, match="different architectures"):
        read_published(written(tmp_path, content))


@pytest.mark.parametrize("key", ["", "downs", "downs.0.0.", "ups.0.9.weight", "unet2.init_conv.bias", "{x}.bias"])
def test_keys_the_published_net_does_not_have(key: str) -> None:
    with pytest.raises(UserError, match="expected only those of the published UNet"):
        rename({key: torch.zeros(1)})
