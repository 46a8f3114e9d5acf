"""The published UNet against arrays recorded from the authors' code, and the contract of every network here."""

import json
import re
import zlib
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rddm.nn.layers import WeightStandardizedConv2d, sinusoids
from rddm.nn.spatial import pad_to_multiple
from rddm.nn.unet import HEADS, UNet, UNetConfig
from rddm.published import infer_config, rename

TOLERANCE = 1e-5
TINY = {"dim": 8, "mults": (1, 2, 2)}

# Each golden output file with its weights: state dict file, key prefix kept (and removed where the class is Unet).
IO_FILES = {
    "unet/exp2_unet_cond.io.safetensors": ("exp2_unetres_share0_cond", "unet0."),
    "unet/exp2_unetres_share-1_cond.io.safetensors": ("exp2_unetres_share0_cond", "unet0."),
    "unet/exp2_unetres_share-1_mask.io.safetensors": ("exp2_unetres_share-1_mask", ""),
    "unet/exp2_unetres_share0_cond.io.safetensors": ("exp2_unetres_share0_cond", ""),
    "unet/exp2_unetres_share1_cond.io.safetensors": ("exp2_unetres_share1_cond", ""),
    "unet/exp0_unetres_num1_pred_noise.io.safetensors": ("exp2_unetres_share0_cond", "unet0."),
    "unet/exp0_unetres_num1_pred_res.io.safetensors": ("exp2_unetres_share0_cond", "unet0."),
    "unet/exp0_unetres_num2_cond.io.safetensors": ("exp2_unetres_share0_cond", ""),
}

# Reference module names -> ours; block1 and block2 have no module of ours whose output is theirs.
MODULES = (
    (r"init_conv", "encoders.0.stem"),
    (r"time_mlp", "encoders.0.clock"),
    (r"downs\.(\d)", r"encoders.0.stages.\1"),
    (r"mid_block1", "encoders.0.middle.first"),
    (r"mid_attn\.fn\.fn", "encoders.0.middle.attention.out"),
    (r"mid_attn", "encoders.0.middle.attention"),
    (r"mid_block2", "encoders.0.middle.second"),
    (r"ups\.(\d)", r"decoders.0.stages.\1"),
    (r"final_res_block", "decoders.0.last"),
    (r"final_conv", "decoders.0.head"),
    (r"(stages\.\d)\.0", r"\1.first"),
    (r"(stages\.\d)\.1", r"\1.second"),
    (r"(stages\.\d)\.2\.fn\.fn", r"\1.attention.out_norm"),
    (r"(stages\.\d)\.2", r"\1.attention"),
    (r"(stages\.\d)\.3", r"\1.resize"),
    (r"attention\.fn\.norm", "attention.norm"),
    (r"first\.mlp", "first.modulation"),
    (r"block1\.proj", "conv1"),
    (r"block1\.norm", "norm1"),
)


def published_net(golden: Path, name: str, prefix: str, strip: bool = False) -> UNet:
    weights = load_file(golden / "unet" / f"{name}.state_dict.safetensors")
    kept = {key[len(prefix) if strip else 0 :]: value for key, value in weights.items() if key.startswith(prefix)}
    return with_weights(rename(kept))


def with_weights(weights: dict[str, Tensor]) -> UNet:
    net = UNet(infer_config(weights))
    net.load_state_dict(weights)
    return net.eval()


def clock_of(file: str, arrays: dict[str, Tensor], case: str) -> Tensor:
    """The integer clock of exp2; of exp0's float pair both columns, or the one the single net reads."""
    if f"{case}/time" in arrays:
        return arrays[f"{case}/time"]
    pair = torch.stack((arrays[f"{case}/time0"], arrays[f"{case}/time1"]), dim=1)
    return pair[:, 1:] if "pred_noise" in file else pair[:, :1] if "pred_res" in file else pair


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).abs().max() / exact.abs().max())


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("file", IO_FILES)
def test_golden_outputs_match_the_float64_reference(golden: Path, file: str, case: str) -> None:
    name, prefix = IO_FILES[file]
    arrays = load_file(golden / file)
    net = published_net(golden, name, prefix, strip=file.endswith("exp2_unet_cond.io.safetensors"))
    with torch.no_grad():
        outputs = net(arrays[f"{case}/x"], clock_of(file, arrays, case))
        exact = net.double()(arrays[f"{case}/x"].double(), clock_of(file, arrays, case))
    assert len(outputs) == sum(key.startswith(f"{case}/out") and key.endswith("_f64") for key in arrays)
    for index, (output, ours64) in enumerate(zip(outputs, exact, strict=True)):
        target = arrays[f"{case}/out{index}_f64"]
        # Measured: at most 2.4e-6 (shared encoder, residual; the reference's own is 1.9e-6), elsewhere below 1.1e-6.
        assert relative_error(output, target) < TOLERANCE
        # Measured: at most 6e-15.
        assert relative_error(ours64, target) < 1e-13


@pytest.mark.parametrize("file", ["unet/exp2_unetres_share0_cond.intermediates.safetensors"])
def test_golden_intermediates_match_module_by_module(golden: Path, file: str) -> None:
    arrays = load_file(golden / file)
    net = published_net(golden, "exp2_unetres_share0_cond", "unet0.")
    found: dict[str, Tensor] = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _module, _input, output, name=name: found.__setitem__(name, output))
    with torch.no_grad():
        (output,) = net(arrays["x"], arrays["time"])
        found["encoders.0.clock.0"] = sinusoids(arrays["time"].float(), net.config.dim)
    names = [key[4:] for key in arrays if key.startswith("act/") and not re.search(r"\.block\d$", key)]
    assert len(names) == 39
    for name in names:
        # Measured: at most 5.7e-6, float32 against float32.
        assert relative_error(found[our_module(name)], arrays[f"act/{name}"]) < TOLERANCE, name
    assert relative_error(output, arrays["out0"]) < TOLERANCE


def our_module(name: str) -> str:
    for pattern, replacement in MODULES:
        name = re.sub(pattern, replacement, name)
    return name


def rule_weight(key: str, shape: list[int]) -> Tensor:
    """The manifest's weights_rule: standard normals seeded by the key, scaled by what the key is."""
    size = int(numpy.prod(shape))
    values = numpy.random.RandomState(zlib.crc32(key.encode())).standard_normal(size).reshape(shape)
    if key.endswith(".bias"):
        values = 0.1 * values
    elif key.endswith(".g") or len(shape) == 1:
        values = 1 + 0.1 * values
    else:
        values = values / numpy.sqrt(numpy.prod(shape[1:]))
    return torch.from_numpy(values.astype(numpy.float32))


@pytest.mark.parametrize("file", ["unet/full_dim64_cond.io.safetensors"])
def test_golden_full_size_net(golden: Path, file: str) -> None:
    arrays = load_file(golden / file)
    keys = json.loads((golden / "unet/full_dim64_cond.keys.json").read_text())
    net = with_weights(rename({key: rule_weight(key, entry[0]) for key, entry in keys.items()}))
    assert net.config == UNetConfig()
    with torch.no_grad():
        (small,), (large,) = net(arrays["x"], arrays["time"]), net(arrays["x2"], arrays["time2"])
    # Measured: 1.4e-6 against float64, 8.6e-7 against the float32 reference.
    assert relative_error(small, arrays["out0_f64"]) < TOLERANCE
    assert relative_error(large, arrays["out0_2"]) < TOLERANCE


@pytest.mark.parametrize("file", ["manifest.json"])
def test_golden_parameter_counts(golden: Path, file: str) -> None:
    counts = json.loads((golden / file).read_text())["notes"]["parameter_counts"]
    channels = {"uncond": 3, "cond": 6, "cond+mask": 9}
    heads = {"-1": "one", "0": "two_nets", "1": "shared_encoder"}
    assert len(counts) == 18
    for name, count in counts.items():
        mults, inputs, shared = re.match(r"dim64 \((.*)\) (\S+) share_encoder=(\S+)", name).groups()
        config = UNetConfig(channels[inputs], 3, 64, tuple(map(int, mults.split(","))), heads[shared])
        with torch.device("meta"):
            assert sum(weight.numel() for weight in UNet(config).parameters()) == count, name


@pytest.mark.parametrize(("heads", "gigamacs"), [("one", 119.17), ("two_nets", 238.35)])
def test_macs_in_full(heads: str, gigamacs: float) -> None:
    """Convolutions 117.48 G and attention 1.69 G: nothing is left out, so the published true count is met exactly."""
    with torch.device("meta"):
        net, image, clock = UNet(UNetConfig(heads=heads)), torch.empty(1, 6, 256, 256), torch.empty(1)
    with FlopCounterMode(display=False) as counter:
        net(image, clock)
    assert counter.get_total_flops() / 2e9 == pytest.approx(gigamacs, abs=0.006)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (33, 40)])
@pytest.mark.parametrize("heads", HEADS)
def test_any_size_and_all_heads(heads: str, size: tuple[int, int]) -> None:
    net = UNet(UNetConfig(heads=heads, **TINY))
    outputs = net(torch.randn(2, 6, *size), torch.tensor([0, 999]))
    assert isinstance(outputs, tuple) and len(outputs) == net.config.outputs == (1 if heads == "one" else 2)
    for output in outputs:
        assert output.shape == (2, 3, *size) and output.isfinite().all()


def test_padding_reflects_where_it_can_and_leaves_fitting_sizes_alone() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert pad_to_multiple(image, 1) is image
    assert pad_to_multiple(image, 4)[0, 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [3, 4, 5, 4], [3, 4, 5, 4]]
    fitting = torch.randn(1, 6, 8, 12)
    assert pad_to_multiple(fitting, 4) is fitting


def test_odd_size_is_the_padded_image_cropped() -> None:
    net, clock = UNet(UNetConfig(**TINY)), torch.tensor([5])
    image = torch.randn(1, 6, 7, 13)
    (whole,) = net(pad_to_multiple(image, 4), clock)
    torch.testing.assert_close(net(image, clock)[0], whole[..., :7, :13], rtol=0, atol=0)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("channels", [3, 6, 9])
def test_gradients_reach_every_weight_and_input_channel(channels: int, heads: str) -> None:
    torch.manual_seed(0)
    net = UNet(UNetConfig(in_channels=channels, heads=heads, **TINY))
    image = torch.randn(1, channels, 8, 8, requires_grad=True)
    sum(output.square().sum() for output in net(image, torch.tensor([10.5]))).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().sum() > 0, name
    assert (image.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


def test_two_nets_read_a_clock_column_each() -> None:
    net = UNet(UNetConfig(heads="two_nets", **TINY))
    image, clock = torch.randn(2, 6, 8, 8), torch.tensor([[1.5, 700.0], [20.0, 3.25]])
    residual, noise = net(image, clock)
    assert torch.equal(residual, net(image, clock[:, 0])[0])
    assert torch.equal(noise, net(image, clock[:, 1])[1])
    assert not torch.equal(noise, net(image, clock[:, 0])[1])


@pytest.mark.parametrize("heads", ["shared_encoder", "two_heads"])
def test_a_single_encoder_reads_the_first_clock_column(heads: str) -> None:
    net = UNet(UNetConfig(heads=heads, **TINY))
    image, clock = torch.randn(2, 6, 8, 8), torch.tensor([[1.5, 700.0], [20.0, 3.25]])
    for both, first in zip(net(image, clock), net(image, clock[:, 0]), strict=True):
        assert torch.equal(both, first)


def test_integer_and_float_clocks_agree() -> None:
    net, image = UNet(UNetConfig(**TINY)), torch.randn(2, 6, 8, 8)
    assert torch.equal(net(image, torch.tensor([7, 999]))[0], net(image, torch.tensor([[7.0], [999.0]]))[0])


@pytest.mark.parametrize("shape", [(), (3,), (1, 2), (2, 3), (2, 1, 1)])
def test_a_clock_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="clock has shape"):
        UNet(UNetConfig(heads="two_nets", **TINY))(torch.randn(2, 6, 8, 8), torch.zeros(shape))


@pytest.mark.parametrize(
    "fields", [{"heads": "three"}, {"dim": 12}, {"dim": 0}, {"mults": ()}, {"mults": (1, 0)}, {"in_channels": 0}]
)
def test_impossible_architectures_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        UNetConfig(**fields)


def test_configs_compare_and_hash_by_value() -> None:
    assert UNetConfig(mults=[1, 2]) == UNetConfig(mults=(1, 2))
    assert len({UNetConfig(), UNetConfig()}) == 1


def test_standardised_weights_have_mean_zero_and_variance_one() -> None:
    conv = WeightStandardizedConv2d(4, 5, 3)
    weight = conv.standardized_weight().detach()
    assert weight.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    raw = conv.weight.detach()
    expected = raw.var(dim=(1, 2, 3), correction=0) / (raw.var(dim=(1, 2, 3), correction=0) + 1e-5)
    torch.testing.assert_close(weight.var(dim=(1, 2, 3), correction=0), expected)


def test_bfloat16_stays_near_float32() -> None:
    torch.manual_seed(0)
    net, image, clock = UNet(UNetConfig(**TINY)), torch.randn(1, 6, 16, 16), torch.tensor([500])
    with torch.no_grad():
        (exact,) = net(image, clock)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (mixed,) = net(image, clock)
        (half,) = net.bfloat16()(image.bfloat16(), clock)
    assert half.dtype == torch.bfloat16
    # Measured: at most 1.4 % of the largest output.
    assert relative_error(mixed, exact) < 0.05 and relative_error(half, exact) < 0.05
