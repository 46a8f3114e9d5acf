"""The published network made for inference: the function of the unfused one, in less memory, on the same tapes."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import restoring_model
from safetensors.torch import load_file
from test_unet import IO_FILES, clock_of, published_net, relative_error
from torch import Tensor

from rddm.errors import UserError
from rddm.memory import PeakMemory, shape_bytes
from rddm.nn import fused
from rddm.nn.fused import FusedAttention, fuse, transposed
from rddm.nn.layers import LinearAttention
from rddm.nn.packed import Packed, packs
from rddm.nn.unet import HEADS, UNet, UNetConfig
from rddm.restore import prepare, run

SMALL = UNetConfig(dim=16, mults=(1, 2, 3))


def random_net(config: UNetConfig) -> UNet:
    """Return a network in which no weight is where training starts: gains, biases and shifts matter too."""
    torch.manual_seed(0)
    net = UNet(config).eval().requires_grad_(False)
    for weight in net.parameters():
        weight += 0.1 * torch.randn_like(weight)
    return net


def both(config: UNetConfig, x: Tensor, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """Return what a network says before and after it is fused."""
    net = random_net(config).to(dtype)
    clock = torch.linspace(3, 900, len(x))
    with torch.inference_mode():
        return [*net(x.to(dtype), clock)], [*fuse(copy.deepcopy(net))(x.to(dtype), clock)]


def images(config: UNetConfig, *size: int, batch: int = 1) -> Tensor:
    """Return what a network may be shown."""
    return torch.randn(batch, config.in_channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize(("size", "batch"), [((32, 40), 1), ((21, 13), 3)])
def test_the_output_is_the_same(heads: str, size: tuple[int, ...], batch: int) -> None:
    config = replace(SMALL, heads=heads)
    for dtype, bound in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        unfused, found = both(config, images(config, *size, batch=batch), dtype)
        for one, other in zip(unfused, found, strict=True):
            # Measured: at most 1.2e-6 and 3e-15 of the largest value.
            assert float((one - other).abs().max()) < bound * float(one.abs().max())


@pytest.mark.parametrize("dims", [1, 3])
def test_signals_and_videos_have_their_kernels_computed_once(dims: int) -> None:
    config = replace(SMALL, dims=dims)
    unfused, found = both(config, images(config, *(8,) * dims, batch=2), torch.float64)
    assert float((unfused[0] - found[0]).abs().max()) < 1e-12
    assert not any(isinstance(part, Packed) for part in fuse(random_net(config)).modules())


@pytest.mark.parametrize("file", IO_FILES)
def test_golden_outputs_of_the_authors(golden: Path, file: str) -> None:
    name, prefix = IO_FILES[file]
    arrays = load_file(golden / file)
    net = fuse(published_net(golden, name, prefix, strip=file.endswith("exp2_unet_cond.io.safetensors")))
    with torch.inference_mode():
        outputs = net(arrays["a/x"], clock_of(file, arrays, "a"))
    for index, output in enumerate(outputs):
        assert relative_error(output, arrays[f"a/out{index}_f64"]) < 1e-5  # measured: at most 3.1e-6


def test_kernels_are_packed_where_onednn_is() -> None:
    """What the machines of CI have; a network elsewhere is fused without it, as that of float64 above is."""
    kinds = [part.packs for part in fuse(random_net(SMALL)).modules() if isinstance(part, Packed)]
    assert packs(torch.zeros(1)) and len(kinds) > 20 and all(kinds)


def test_a_transposed_convolution_enlarges_and_convolves() -> None:
    conv, x = (
        torch.nn.Conv2d(3, 5, 3, padding=1).double().requires_grad_(False),
        torch.randn(2, 3, 4, 7, dtype=torch.float64),
    )
    large = conv(torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert float((transposed(conv)(x) - large).abs().max()) < 1e-13


@pytest.mark.parametrize("piece", [7, 64, 10000])
def test_attention_in_pieces(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """Keys of very different size in the pieces: a maximum that did not run would overflow or lose all."""
    monkeypatch.setattr(fused, "PIECE", piece)
    attention = random_net(SMALL).double().get_submodule("encoders.0.stages.0.attention")
    assert isinstance(attention, LinearAttention)
    attention.norm.gain.mul_(torch.linspace(1, 400, 16, dtype=torch.float64).view(1, -1, 1, 1))
    x = images(replace(SMALL, in_channels=16), 9, 11, batch=2).double()
    expected = attention(x)
    found = FusedAttention(attention)(x.contiguous(memory_format=torch.channels_last))
    assert torch.isfinite(expected).all() and float((found - expected).abs().max()) < 1e-12


def test_memory_is_half() -> None:
    """Of the published network at 256x256; measured on shapes: 186 of 401 MB, and the count of a run agrees."""
    config = UNetConfig()
    assert shape_bytes(config, 256, 256, engine="float32") < 0.5 * shape_bytes(config, 256, 256)
    net, x = fuse(random_net(SMALL)), images(SMALL, 96, 96).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), PeakMemory() as counter:
        net(x, torch.zeros(1))
    predicted = shape_bytes(SMALL, 96, 96, engine="float32") - 4 * x.numel()
    assert predicted == pytest.approx(counter.peak, rel=0.1)


def test_an_optimized_model_restores_the_same_picture_in_tiles() -> None:
    """Tapes are played to fused layers too."""
    model, pixels = restoring_model(SMALL), np.random.default_rng(0).integers(0, 256, (150, 220, 3), np.uint8)
    before = run(prepare(model, 150, 220, tile=128), pixels)
    found = run(prepare(copy.deepcopy(model).optimize(), 150, 220, tile=128), pixels)
    assert np.abs(before.astype(int) - found).max() <= 1 and (before != found).mean() < 1e-3


def test_an_optimized_model_is_not_saved(tmp_path: Path) -> None:
    model = restoring_model(SMALL).optimize()
    assert model.optimize() is model
    with pytest.raises(UserError, match="random: was optimized, expected a model as it was loaded"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "model.safetensors").exists()
