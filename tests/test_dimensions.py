"""One, two and three spatial dimensions, any number of channels: networks, core, loss, recipes, trainer."""

import json
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from models import restoring_model
from torch import Tensor

from rddm.cost import network_gmacs
from rddm.denoiser import GaussianOracle, NetworkDenoiser
from rddm.errors import UserError
from rddm.fitting import fitted
from rddm.loss import DISTANCES, Batch, compare, frequency, losses
from rddm.memory import shape_bytes, training_bytes
from rddm.methods import METHODS
from rddm.model import network
from rddm.nn.compact import Compact, CompactConfig, Several
from rddm.nn.spatial import LAYOUT, pad_to_multiple, shuffle, unshuffle
from rddm.nn.unet import UNet, UNetConfig
from rddm.recipe import Phase, Recipe, from_json, to_json, with_method
from rddm.restore import prepare
from rddm.sample import sample
from rddm.solvers import SOLVERS

SIZES = {1: (13,), 2: (7, 10), 3: (3, 6, 9)}
CHANNELS = (1, 4, 7)
SMALL = CompactConfig(widths=(8, 16), blocks=(1, 1), features=16)


def noisy(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dims", SIZES)
def test_patches_are_folded_position_by_position(dims: int) -> None:
    """Channel ``(c, i, j, ...)`` of a folded image holds the pixels at offset ``(i, j, ...)`` of every patch."""
    x = noisy((2, 3, *(2 * side for side in SIZES[dims])))
    folded = unshuffle(x, 2)
    assert folded.shape == (2, 3 * 2**dims, *SIZES[dims])
    for channel, offset in enumerate(product(range(3), *(range(2),) * dims)):
        window = (slice(None), offset[0], *(slice(start, None, 2) for start in offset[1:]))
        assert torch.equal(folded[:, channel], x[window])
    assert torch.equal(shuffle(folded, 2), x)


@pytest.mark.parametrize("dims", SIZES)
def test_padding_reflects_at_the_end_of_every_axis(dims: int) -> None:
    x = noisy((1, 2, *SIZES[dims]))
    widths = [(0, 0), (0, 0), *((0, -side % 4) for side in SIZES[dims])]
    assert np.array_equal(pad_to_multiple(x, 4).numpy(), np.pad(x.numpy(), widths, mode="reflect"))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dims", SIZES)
def test_networks_take_any_size_and_channels(dims: int, channels: int) -> None:
    shapes = (
        replace(SMALL, in_channels=channels + 2, out_channels=channels, heads=2, context=3, dims=dims),
        replace(SMALL, in_channels=channels + 2, out_channels=channels, heads=2, nets=2, dims=dims),
        UNetConfig(channels + 2, channels, 8, (1, 2), "two_heads", dims),
    )
    for config in shapes:
        net, x = network(config), noisy((2, channels + 2, *SIZES[dims])).requires_grad_()
        told = torch.rand(2, config.told) if isinstance(net, Compact) else torch.rand(2, 2)
        outputs = net(x, told)
        assert [output.shape for output in outputs] == [(2, channels, *SIZES[dims])] * 2
        sum(output.square().sum() for output in outputs).backward()  # pyright: ignore
        assert x.grad is not None and bool((x.grad.abs().sum((0, *range(2, x.ndim))) > 0).all())


def lifted(name: str, weight: Tensor, dims: int) -> Tensor:
    """Return a weight of a network of ``dims`` for one dimension more, along which the image does not change."""
    if weight.ndim < 3:
        return doubled(weight, dims) if re.fullmatch(r"(up\.\d|leave)\.bias", name) else weight
    kernel = weight[:, :, None]
    if name.startswith("down"):
        return kernel.expand(-1, -1, 2, *kernel.shape[3:]) / 2  # the mean of two equal rows
    if name.startswith("up"):
        return doubled(kernel, dims)
    if name.startswith("enter"):
        kernel = doubled(kernel.transpose(0, 1), dims).transpose(0, 1) / 2
    if name.startswith("leave"):
        kernel = doubled(kernel, dims)
    nothing = torch.zeros_like(kernel)
    return torch.cat([nothing, kernel, nothing], 2)  # of the neighbours along the new axis


def doubled(weight: Tensor, dims: int) -> Tensor:
    """Return rows (channel, new offset, offsets) of a weight with rows (channel, offsets): the same for both new."""
    rows = weight.unflatten(0, (-1, 2**dims))
    return torch.stack([rows, rows], 1).flatten(0, 2)


@pytest.mark.parametrize("dims", [1, 2])
def test_a_network_of_more_dimensions_is_the_same_where_nothing_changes(dims: int) -> None:
    """Patches, strides, kernels and paddings of n dimensions are those of n - 1 along the axes they share."""
    config = CompactConfig(3, 2, widths=(8, 16), blocks=(1, 1), features=16, dims=dims)
    net, more = restoring_model(config).net, Compact(replace(config, dims=dims + 1))
    more.load_state_dict({name: lifted(name, weight, dims) for name, weight in net.state_dict().items()})
    x, told = noisy((2, 3, *SIZES[dims])), torch.rand(2, 1)
    rows = 6
    expected = net(x, told)[0][:, :, None].expand(-1, -1, rows, *SIZES[dims])
    found = more(x[:, :, None].expand(-1, -1, rows, *SIZES[dims]), told)[0]
    assert expected.abs().max() > 0.1
    assert torch.allclose(found, expected, atol=1e-5)  # measured: 2.4e-7


@pytest.mark.parametrize("dims", [2, 3])
def test_no_axis_of_the_unet_is_another_than_the_others(dims: int) -> None:
    """Turned kernels turn the output of a turned image."""
    net, turned = (UNet(UNetConfig(2, 1, 8, (1, 2), dims=dims)) for _ in range(2))
    turned.load_state_dict({k: v.transpose(2, -1) if v.ndim > 3 else v for k, v in net.state_dict().items()})
    x, clock = noisy((2, 2, *SIZES[dims])), torch.tensor([5.0, 900.0])
    expected = net(x, clock)[0].transpose(2, -1)
    assert torch.allclose(turned(x.transpose(2, -1), clock)[0], expected, atol=1e-4)  # measured: 2.6e-6


@pytest.mark.parametrize("dims", [0, 4, -1])
def test_other_dimensions_are_refused(dims: int) -> None:
    for config in (CompactConfig, UNetConfig):
        with pytest.raises(
            ValueError, match=rf"^dims is {dims}, expected 1 \(signals\), 2 \(photographs\) or 3 [^\n]*$"
        ):
            config(dims=dims)
    with pytest.raises(ValueError, match="thumbnail is 32 in 3 dimensions, expected 0"):
        CompactConfig(thumbnail=32, dims=3)


def test_several_networks_stay_apart() -> None:
    """Of three dimensions too: the second network's output does not see the first one's clock."""
    net = Several(CompactConfig(2, 1, 2, (8, 16), (1, 1), nets=2, dims=3)).requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = noisy((1, 2, *SIZES[3]))
    before, after = (net(x, torch.tensor([[clock, 7.0]])) for clock in (1.0, 500.0))
    assert torch.equal(before[1], after[1]) and not torch.allclose(before[0], after[0])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dims", SIZES)
def test_samplers_do_not_care_for_shapes(dims: int, channels: int) -> None:
    """Every row with every solver gives the numbers it gives to pixels in a line."""
    shape = (2, channels, *SIZES[dims])
    x_in, z = noisy(shape), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    oracle = GaussianOracle(torch.tensor(0.3), torch.tensor(0.5))
    for row, (name, solver) in product(METHODS.values(), SOLVERS.items()):
        if name == "dpm++" and row.path.node(0.5).bbar == 0:
            continue  # wants noise
        nodes = row.path.grid(4)
        found = sample(oracle, x_in, nodes, solver, lambda like: z)
        line = sample(oracle, x_in.flatten(1), nodes, solver, lambda like: z.flatten(1))
        assert torch.equal(found.flatten(1), line), (row.name, name)


@pytest.mark.parametrize(("dims", "channels"), list(zip(SIZES, CHANNELS, strict=True)))
@pytest.mark.parametrize("name", METHODS)
def test_every_row_is_trained_and_sampled(name: str, dims: int, channels: int) -> None:
    """States of different times in one batch, one loss per head, and a sample of the network."""
    method = METHODS[name]
    config = fitted(replace(SMALL, out_channels=channels, dims=dims), method)
    shape, t = (2, channels, *SIZES[dims]), torch.tensor([0.2, 0.9], dtype=torch.float64)
    x_0, eps = noisy(shape), noisy(shape).flip(0)
    x_in = torch.zeros(shape) if method.origin == "zero" else noisy(shape).flip(1)
    denoiser = NetworkDenoiser(network(config).requires_grad_(False), method, {"degraded": noisy(shape).flip(1)})
    compared = compare(denoiser, x_0, x_in, t, lambda like: eps)
    for i in range(2):
        abar, bbar = (float(value) for value in method.path.curve(t[i]))
        expected = x_0[i] + abar * (x_in[i] - x_0[i]) + bbar * eps[i]
        assert torch.allclose(compared.x_t[i], expected, atol=1e-6)  # measured: 0
    found = losses(denoiser, x_0, x_in, t, lambda like: eps, DISTANCES["l1"])
    assert found.shape == (method.target.heads,) and found.isfinite().all()
    start = torch.ones(shape) / 2 if method.target.singular == "abar = 1" else None
    nodes = method.path.grid(3) if start is None else method.path.grid(3)[1:]
    assert sample(denoiser, x_in, nodes, x_start=start).shape == shape


@pytest.mark.parametrize("dims", SIZES)
def test_batches_have_the_layout_that_convolutions_want(dims: int) -> None:
    x = noisy((2, 4, *SIZES[dims]))
    batch = Batch(x, x, torch.rand(2), x, {"numbers": torch.rand(2, 5), "x": x}).to(torch.device("cpu"))
    for image in (batch.x_0, batch.x_in, batch.eps, batch.conditions["x"]):
        assert torch.equal(image, x) and image.is_contiguous(memory_format=LAYOUT[dims])
    assert batch.conditions["numbers"].shape == (2, 5)
    strides = batch.x_0.stride()
    assert (strides[1] == 1) == (dims > 1)


@pytest.mark.parametrize(("size", "expected"), [((8,), 8**0.5 / 5), ((4, 6), 24**0.5 / 16), ((2, 4, 8), 8 / 40)])
def test_the_frequencies_are_those_of_all_axes(size: tuple[int, ...], expected: float) -> None:
    """A constant lies in the one frequency 0; along the last axis only half of them are told."""
    a, b = torch.zeros(1, 2, *size), torch.full((1, 2, *size), 0.5)
    assert float(frequency(a, b)) == pytest.approx(0.5 * expected)
    wave = torch.cos(torch.pi * torch.arange(size[0])).view(
        1, 1, -1, *(1,) * (len(size) - 1)
    )  # the fastest, of axis one
    assert float(frequency(wave.expand(1, 1, *size), torch.zeros(1, 1, *size))) == pytest.approx(expected)


@pytest.mark.parametrize("dims", SIZES)
def test_costs_grow_with_every_axis(dims: int) -> None:
    config = replace(SMALL, dims=dims)
    once, twice = (network_gmacs(config, *size) for size in ((64,) * dims, (64,) * (dims - 1) + (128,)))
    assert twice == pytest.approx(2 * once, rel=0.02)  # what the clock costs does not grow; measured: 0.016
    for shape in (config, UNetConfig(dim=8, mults=(1, 2), dims=dims)):
        assert shape_bytes(shape, *(16,) * dims) > 4 * shape.in_channels * 16**dims
        assert training_bytes(shape, 2, 16) > shape_bytes(shape, *(16,) * dims)


def recipe_of(dims: int, channels: int, **shown: int) -> Recipe:
    """Return a recipe of some seconds that sees ``x_in`` and what is named."""
    method = replace(METHODS["rddm-res"], inputs=("x_in", *shown))
    shape = fitted(replace(SMALL, out_channels=channels, dims=dims), method, shown)
    phases = (Phase(1.0, {1: 64, 2: 16, 3: 16}[dims], 4),)
    return Recipe(
        "tiny",
        method,
        shape,
        "nothing",
        shown,
        phases=phases,
        steps=24,
        validate_every=8,
        optimiser="adamw",
        lr=4e-3,
        metric="psnr",
    )


def test_channels_of_inputs_are_told_by_name() -> None:
    recipe = recipe_of(2, 4, pan=1)
    assert recipe.network.in_channels == 4 + 4 + 1
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe
    sees_pan = with_method(recipe, METHODS["flow-paired"])
    assert sees_pan.network.in_channels == 4 + 1 and sees_pan.channels == {"pan": 1}
    assert with_method(recipe, METHODS["ddim"]).channels == {}
    with pytest.raises(ValueError, match="^channels: found pna, expected inputs of the method"):
        replace(recipe, channels={"pna": 1})
    with pytest.raises(ValueError, match="does not fit the method"):
        replace(recipe, channels={"pan": 2})


def test_holes_are_filled_for_networks_that_are_shown_them() -> None:
    with pytest.raises(
        ValueError, match="^prepare: found 'fill' for a method that is shown no mask, expected 'none' or"
    ):
        replace(recipe_of(2, 3), prepare="fill")
    assert replace(recipe_of(2, 3, mask=3), prepare="fill").prepare == "fill"


@pytest.mark.parametrize(("dims", "channels"), [(1, 3), (2, 4), (3, 3)])
def test_photos_are_restored_by_models_of_photos(dims: int, channels: int) -> None:
    model = restoring_model(recipe_of(dims, channels).network)  # pyright: ignore
    expected = f"^random: restores {channels} channels in {dims} dimensions, expected 3 in 2 as photos have$"
    with pytest.raises(UserError, match=expected):
        prepare(model, 32, 32)


@pytest.mark.parametrize("change", [{"metric": "psnr-rgb"}, {"perceptual": 0.5}])
def test_metrics_of_photographs_are_for_photographs(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="what are no photographs, expected 'psnr' or 'loss', and 0"):
        replace(recipe_of(1, 1), **change)  # pyright: ignore
    with pytest.raises(ValueError, match="what are no photographs"):
        replace(recipe_of(3, 3), **change)  # pyright: ignore
