"""A DDPM's or DDIM's folder, saved by `diffusers` itself, becomes a model of ours that samples as it did there."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rddm.cli import main
from rddm.convert_diffusers import convert_diffusers
from rddm.cost import gmacs
from rddm.denoiser import NetworkDenoiser
from rddm.errors import UserError
from rddm.hf import trajectory
from rddm.methods import Method
from rddm.model import Model, load
from rddm.nn.unet2d import UNet2D, completed
from rddm.path import gaussian
from rddm.recipe import continued
from rddm.recipes import restore
from rddm.sample import sample
from rddm.schedules import ddpm_betas
from rddm.solvers import Ancestral
from rddm.spec import spec_from_json, spec_to_json

diffusers = pytest.importorskip("diffusers")

F64 = torch.float64
SHAPE: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
# What is clipped should not be clipped everywhere: an epsilon of fresh weights asks for x_0 far outside the range.
PREDICTIONS = {"epsilon": False, "sample": True, "v_prediction": True}


def saved(folder: Path, kind: str = "DDIM", **config: Any) -> Path:
    """Write a pipeline with a fresh network, as diffusers does, and return its folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(**SHAPE)
        with torch.no_grad():
            unet.conv_out.weight *= 3
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**config)
    getattr(diffusers, f"{kind}Pipeline")(unet, scheduler).save_pretrained(folder)
    return folder


def theirs(source: Path, kind: str, steps: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return what diffusers samples from the folder in float64, its tables computed in float64."""
    pipeline = getattr(diffusers, f"{kind}Pipeline").from_pretrained(source)
    unet, scheduler = pipeline.unet.double().eval(), pipeline.scheduler
    scheduler.alphas_cumprod = (1 - ddpm_betas("linear")).cumprod(0)
    scheduler.one = scheduler.final_alpha_cumprod = torch.ones((), dtype=F64)
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x, generator=generator).prev_sample
    return x


def ours(model: Model, method: Method, steps: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return what a row of ours samples with the model's network."""
    nodes, solver = trajectory(model.spec.card["scheduler"], steps), Ancestral(method.gain, method.anchor)
    with torch.no_grad():
        ask = NetworkDenoiser(model.net, method)
        return sample(ask, torch.zeros_like(x), nodes, solver, gaussian(generator), x)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["DDIM", "DDPM"])
def test_the_converted_model_samples_as_diffusers_does(kind: str, prediction: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "theirs", kind, prediction_type=prediction, clip_sample=PREDICTIONS[prediction])
    convert_diffusers(source, tmp_path / "ours")
    model = load(tmp_path / "ours").double()
    method = model.spec.method
    late = replace(method, clock=lambda path, node: [value + 1 for value in method.clock(path, node)])
    x = torch.randn(2, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    for steps in (5, 20):
        expected = theirs(source, kind, steps, x, torch.Generator().manual_seed(1))
        found = ours(model, method, steps, x, torch.Generator().manual_seed(1))
        wrong = ours(model, late, steps, x, torch.Generator().manual_seed(1))
        assert (expected - found).abs().max() <= 1e-10  # measured: at most 4.2e-12, of values up to 580
        assert (expected - wrong).abs().max() > 0.01  # a clock that is off by one: measured at least 0.1


def test_their_pipeline_draws_the_same_image(tmp_path: Path) -> None:
    """In float32 and as called: noise from a generator, default clipping, 0 to 1 in the end."""
    source = saved(tmp_path / "theirs", prediction_type="v_prediction")
    pipeline = diffusers.DDIMPipeline.from_pretrained(source)
    drawn = pipeline(2, torch.Generator().manual_seed(3), num_inference_steps=10, output_type="np").images
    model, generator = convert_diffusers(source, tmp_path / "ours"), torch.Generator().manual_seed(3)
    found = ours(model, model.spec.method, 10, torch.randn(2, 3, 8, 8, generator=generator), generator)
    found = (found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert (found - torch.from_numpy(drawn)).abs().max() < 1e-5  # measured 9e-7


def test_nothing_of_the_source_is_needed(tmp_path: Path) -> None:
    source = saved(tmp_path / "theirs")
    expected = load_file(source / "unet/diffusion_pytorch_model.safetensors")
    shutil.copytree(source, tmp_path / "copy")
    converted = convert_diffusers(tmp_path / "copy", tmp_path / "ours")
    shutil.rmtree(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "ours").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    model = load(tmp_path / "ours")
    assert model.spec == converted.spec == spec_from_json(json.loads(json.dumps(spec_to_json(model.spec))))
    assert (
        model.spec.name == "copy" and model.spec.side == 8 and hash(model.spec.network) == hash(converted.spec.network)
    )
    assert isinstance(model.net, UNet2D) and model.net.unet.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in model.net.unet.state_dict().items())
    assert model.spec.card["parameters"] == sum(value.numel() for value in expected.values())
    assert gmacs(model, 8, 8) == pytest.approx(0.00106, rel=0.01)  # counted on shapes alone
    images = torch.zeros(2, 3, 9, 13)  # padded inside
    assert model.net(images, torch.zeros(2, 1))[0].shape == images.shape


def test_the_row_is_the_schedulers(tmp_path: Path) -> None:
    table = (("DDIM", {}, "ddim", 50), ("DDPM", {}, "ddpm", 1000), ("DDPM", {"num_train_timesteps": 40}, "ddpm", 40),
             ("DDPM", {"variance_type": "fixed_large"}, "ddim", 50))  # fmt: skip
    for i, (kind, config, row, steps) in enumerate(table):
        method = convert_diffusers(saved(tmp_path / f"theirs{i}", kind, **config), tmp_path / f"ours{i}").spec.method
        assert (method.name, method.steps) == (row, steps)
        assert (method.gain.name, method.anchor.__name__) == {
            "ddim": ("deterministic", "anchor_eps"), "ddpm": ("markov", "anchor_x_0"),
        }[row]  # fmt: skip


def flat(source: Path) -> None:
    """Lay the files side by side, as the oldest checkpoints have them."""
    for path in [*source.glob("unet/*"), *source.glob("scheduler/*")]:
        path.rename(source / path.name)


def pickled(source: Path) -> None:
    """Save the weights with torch."""
    file = source / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def named_as_once(source: Path) -> None:
    """Call the weights of attention what they once were called."""
    file = source / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for now, once in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(f".{now}.", f".{once}."): value for name, value in weights.items()}
    assert "up_blocks.0.attentions.0.proj_attn.bias" in weights and not any("to_" in name for name in weights)
    save_file(weights, file)


@pytest.mark.parametrize("change", [flat, pickled, named_as_once])
def test_older_layouts(change: Callable[[Path], None], tmp_path: Path) -> None:
    source = saved(tmp_path / "theirs")
    expected = convert_diffusers(source, tmp_path / "ours").state_dict()
    change(source)
    found = convert_diffusers(source, tmp_path / "again").state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (UNET, {"_class_name": "UNet2DConditionModel"}, "found 'UNet2DConditionModel', expected 'UNet2DModel'"),
    (UNET, {"num_class_embeds": 10}, "num_class_embeds: found 10"),
    (UNET, {"class_embed_type": "timestep"}, "class_embed_type: found 'timestep'"),
    (UNET, {"time_embedding_type": "fourier"}, "time_embedding_type: found 'fourier'"),
    (UNET, {"out_channels": 6}, "3 input channels for 6 output channels"),
    (UNET, {"block_out_channels": [8, 12]}, "has shape"),
    (UNET, {"block_out_channels": [8]}, "block_out_channels"),
    (UNET, {"layers_per_block": 2}, "is missing"),
    (UNET, {"magic": 1}, "magic"),
    (SCHEDULER, {"_class_name": "PNDMScheduler"}, "_class_name: found 'PNDMScheduler'"),
    (SCHEDULER, {"beta_schedule": "sigmoid"}, "beta_schedule: found 'sigmoid', expected 'linear'"),
    (SCHEDULER, {"trained_betas": [0.1, 0.2]}, "trained_betas: found shape (2,), expected (1000,)"),
    (SCHEDULER, {"trained_betas": "none"}, "scheduler_config.json"),
    (SCHEDULER, {"prediction_type": "flow"}, "prediction_type: found 'flow'"),
    (INDEX, {"vqvae": ["diffusers", "VQModel"]}, "found vqvae, expected a pipeline of unet and scheduler alone"),
]


def refused(source: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Return the one line with which a folder is refused."""
    capsys.readouterr()
    assert main(["convert", str(source), str(out), *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rddm: ")]
    assert len(lines) == 1 and not out.exists()
    return lines[0]


@pytest.mark.parametrize(("file", "change", "complaint"), WRONG)
def test_what_no_row_or_network_says_is_one_line(
    file: str, change: dict[str, Any], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "theirs") / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    line = refused(tmp_path / "theirs", tmp_path / "out", capsys)
    assert complaint in line and str(tmp_path / "theirs") in line


@pytest.mark.parametrize("missing", ["unet", "scheduler", "unet/diffusion_pytorch_model.safetensors"])
def test_a_folder_that_lacks_something_is_one_line(
    missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "theirs") / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    line = refused(tmp_path / "theirs", tmp_path / "out", capsys)
    assert ("found no weights" if path.suffix else f"found no {missing}/") in line


def test_damaged_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = saved(tmp_path / "theirs"), tmp_path / "out"
    weights, config = source / "unet/diffusion_pytorch_model.safetensors", source / SCHEDULER
    tensors = {name: value.clone() for name, value in load_file(weights).items()}
    save_file({**tensors, "conv_in.bias": tensors["conv_in.bias"] * float("nan")}, weights)
    assert "conv_in.bias holds NaN" in refused(source, out, capsys)
    weights.write_bytes(weights.read_bytes()[:999])
    assert "cannot be read as weights" in refused(source, out, capsys)
    for text in ("{", "[]"):
        config.write_text(text)
        assert "expected a configuration of diffusers" in refused(source, out, capsys)


def test_a_network_of_another_version_is_one_line(tmp_path: Path) -> None:
    convert_diffusers(saved(tmp_path / "theirs"), tmp_path / "ours")
    config = tmp_path / "ours/config.json"
    data = json.loads(config.read_text())
    data["network"]["fields"].append(["magic", 1])
    config.write_text(json.dumps(data))
    with pytest.raises(UserError, match="magic.*; converted by another version"):
        load(tmp_path / "ours")


def test_options_and_folders_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(tmp_path / "theirs")
    assert "are for an authors' model-N.pt" in refused(source, tmp_path / "out", capsys, "--weights", "raw")
    with pytest.raises(UserError, match="itself, expected another"):
        convert_diffusers(source, source)
    with pytest.raises(UserError, match="no such folder"):
        convert_diffusers(tmp_path / "nothing", tmp_path / "out")
    assert main(["convert", str(source), str(tmp_path / "out")]) == 0
    assert "theirs, 45,259 parameters" in capsys.readouterr().out
    with pytest.raises(ValueError, match="a network of diffusers, expected one of ours"):
        continued(restore(), load(tmp_path / "out").spec, "out")


def test_without_diffusers_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "theirs")
    convert_diffusers(source, tmp_path / "ours")
    monkeypatch.setitem(sys.modules, "diffusers.models.unets.unet_2d", None)  # imports as if it were not there
    assert "pip install 'rddm[diffusers]'" in refused(source, tmp_path / "out", capsys)
    with pytest.raises(UserError, match="pip install"):
        load(tmp_path / "ours")


def test_a_learned_clock_is_shown_whole_numbers() -> None:
    config = completed({**SHAPE, "time_embedding_type": "learned", "num_train_timesteps": 10})
    net, x, times = UNet2D(config), torch.randn(2, 3, 8, 8), torch.tensor([3, 9])
    with torch.no_grad():
        assert torch.equal(net(x, times[:, None].float())[0], net.unet(x, times).sample)
