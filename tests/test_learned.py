"""Metrics of trained networks, with random weights: layouts, loading, what holds whatever the weights, torchmetrics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rddm import inception
from rddm.cli import main
from rddm.errors import UserError
from rddm.inception import Classes, FidKid, Inception, frechet, inception_score, kernel_distance
from rddm.learned import ALEXNET, HEADS, JUDGES, Heads, Lpips, alexnet, extra_metrics, vgg16
from rddm.weights import load_weights


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose folder of weights is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDDM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / "weights").mkdir()
    return tmp_path


def alexnet_weights() -> dict[str, torch.Tensor]:
    """Return random weights as torchvision's file has them, with the classifier."""
    torch.manual_seed(0)
    return {**alexnet().state_dict(), "classifier.1.weight": torch.zeros(4, 4), "classifier.1.bias": torch.zeros(4)}


def test_lpips(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With random weights: zero for equal images, symmetric, more for more noise; the layout is torchvision's."""
    weights = alexnet_weights()
    shapes = {key: tuple(value.shape) for key, value in weights.items() if "weight" in key and "features" in key}
    assert shapes == {"features.0.weight": (64, 3, 11, 11), "features.3.weight": (192, 64, 5, 5),
                      "features.6.weight": (384, 192, 3, 3), "features.8.weight": (256, 384, 3, 3),
                      "features.10.weight": (256, 256, 3, 3)}  # fmt: skip
    assert sum(p.numel() for p in alexnet().parameters()) == 2_469_696
    torch.save(weights, folders / "weights" / ALEXNET)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate((64, 192, 384, 256, 256))}
    torch.save(heads, folders / "weights" / HEADS)
    metric = extra_metrics(["lpips"]).pairs["lpips"]
    random = np.random.default_rng(0)
    a = random.integers(60, 180, (64, 80, 3), np.uint8)
    b, c = ((a + random.normal(0, sigma, a.shape)).clip(0, 255).astype(np.uint8) for sigma in (5, 40))
    assert metric(a, a) == 0 and metric(a, b) == pytest.approx(metric(b, a)) and 0 < metric(a, b) < metric(a, c)
    for folder, image in (("clean", a), ("degraded", c)):
        (folders / folder).mkdir()
        Image.fromarray(image).save(folders / folder / "a.png")
    options = ["--clean", str(folders / "clean"), "--outputs", str(folders / "degraded"), "--out", str(folders / "out")]
    assert main(["evaluate", "--protocol", "lol-rgb", *options, "--also", "lpips,ms-ssim"]) == 2  # 64 pixels: too small
    assert "161x161" in capsys.readouterr().err
    assert main(["evaluate", "--protocol", "lol-rgb", *options, "--also", "lpips"]) == 0
    assert f", LPIPS {metric(c, a):.4f} (1 images" in capsys.readouterr().out


def test_lpips_by_hand() -> None:
    """One layer at a time: unit features, squared differences, weights, mean over pixels."""
    torch.manual_seed(0)
    trunk, heads = alexnet().eval().requires_grad_(False), Heads().requires_grad_(False)
    a, b = (np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8) for i in (0, 1))
    total = 0.0
    for index, width in enumerate((64, 192, 384, 256, 256)):
        layers = []
        for image in (a, b):
            x = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
            for c, (shift, scale) in enumerate(((-0.030, 0.458), (-0.088, 0.448), (-0.188, 0.450))):
                x[:, c] = (x[:, c] - shift) / scale
            layers.append(nn.functional.normalize(trunk(x)[index], dim=1))
        assert layers[0].shape[1] == width
        difference = (layers[0] - layers[1]) ** 2
        total += float((difference * heads.weights()[index]).sum(1).mean())
    assert Lpips(trunk, heads)(a, b) == pytest.approx(total, rel=1e-4, abs=1e-6)


def test_torchmetrics_brings_the_heads() -> None:
    """Its file of LPIPS 0.1 fits ours, so that AlexNet's weights alone are wanted."""
    torchmetrics = pytest.importorskip("torchmetrics")
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    heads = Heads()
    load_weights(heads, folder / HEADS)
    assert all(weight.min() >= 0 and weight.max() > 0 for weight in heads.weights())


def test_vgg16_has_the_published_layout() -> None:
    """13 convolutions, told at relu1_2, 2_2, 3_3, 4_3 and 5_3; 14,714,688 parameters."""
    trunk = vgg16()
    assert [i for i, layer in enumerate(trunk.features) if isinstance(layer, nn.Conv2d)] == [
        0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]  # fmt: skip
    assert sorted(trunk.told) == [3, 8, 15, 22, 29] and sum(p.numel() for p in trunk.parameters()) == 14_714_688
    assert [x.shape[1] for x in trunk(torch.zeros(1, 3, 32, 32))] == list(JUDGES["lpips-vgg"].widths)


class Malice:
    def __reduce__(self) -> tuple:
        return (Path("harmed").touch, ())


def test_weight_files_are_read_with_care(folders: Path) -> None:
    file = folders / "weights" / ALEXNET
    weights = alexnet_weights()
    for content, expected in (
        ({**weights, "features.0.weight": torch.zeros(3)}, r"features.0.weight has shape \(3,\)"),
        ({key: value for key, value in weights.items() if key != "features.3.bias"}, "features.3.bias is missing"),
        ({**weights, "features.99.bias": torch.zeros(1)}, "found features.99.bias"),
        ([1], "found list, expected a dictionary"),
        ({"features.0.weight": Malice()}, "cannot be read as weights"),
    ):
        torch.save(content, file)
        with pytest.raises(UserError, match=expected):
            extra_metrics(["lpips"])
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read as weights"):
        extra_metrics(["lpips"])
    assert not Path("harmed").exists()


def test_inception_has_the_published_layout() -> None:
    """Numbers of parameters and names as torchvision's file has them, less the auxiliary classifier."""
    with torch.device("meta"):
        net = Inception(1000, inception.padded_average, inception.padded_average)
        assert net(torch.empty(2, 3, 64, 64)).shape == (2, 2048)
    assert sum(p.numel() for p in net.parameters()) == 23_834_568
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3) and shapes["fc.weight"] == (1000, 2048)
    assert shapes["Mixed_5b.branch5x5_2.bn.running_var"] == (64,)
    assert shapes["Mixed_6b.branch7x7dbl_5.conv.weight"] == (192, 128, 1, 7)
    rows = {"branch7x7_2", "branch7x7dbl_3", "branch7x7dbl_5", "branch7x7x3_2", "branch3x3_2a", "branch3x3dbl_3a"}
    columns = {"branch7x7_3", "branch7x7dbl_2", "branch7x7dbl_4", "branch7x7x3_3", "branch3x3_2b", "branch3x3dbl_3b"}
    found = [{n.split(".")[1] for n, s in shapes.items() if len(s) == 4 and s[2 + i] < s[3 - i]} for i in (0, 1)]
    assert found == [rows, columns]


def test_the_two_inceptions_pool_differently() -> None:
    x = torch.ones(1, 1, 4, 4)
    assert inception.inner_average(x).min() == 1 and inception.padded_average(x).min() == pytest.approx(4 / 9)
    assert inception.maximum(-x).min() == -1
    assert inception.inception_fid.__doc__ and inception.inception_classes.__doc__


class Tiny(nn.Module):
    """A stand-in for Inception: the image's mean colour and spread."""

    fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


def test_sets_of_images() -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(12)]
    same, other, classes = FidKid(Tiny()), FidKid(Tiny()), Classes(Tiny())  # type: ignore[arg-type]
    for image in images:
        same.add(image, image), other.add(image // 2, image), classes.add(image, image)
    assert same.result()["fid"] == pytest.approx(0, abs=1e-9) and abs(same.result()["kid"]) < 0.05
    assert other.result()["fid"] > 0.05 and other.result()["kid"] > same.result()["kid"]
    assert 1 <= classes.result()["is"] < 5
    with pytest.raises(ValueError, match="at least two"):
        FidKid(Tiny()).result()  # type: ignore[arg-type]


def test_fid_kid_and_inception_score_equal_torchmetrics() -> None:
    """On the same features: torchmetrics takes any network in Inception's place."""
    fid_module, kid_module, score_module = (
        pytest.importorskip(f"torchmetrics.image.{name}") for name in ("fid", "kid", "inception")
    )
    torch.manual_seed(0)
    a, b = torch.randn(30, 3, 1, 2), torch.randn(40, 3, 1, 2) * 1.3 + 0.2
    flat = nn.Flatten()
    flat.num_features = 6  # type: ignore[assignment]
    first, second = (x.flatten(1).double().numpy() for x in (a, b))
    fid = fid_module.FrechetInceptionDistance(feature=flat)
    kid = kid_module.KernelInceptionDistance(feature=flat, subsets=1, subset_size=30)
    for metric, targets in ((fid, b), (kid, b[:30])):
        metric.update(a, real=False), metric.update(targets, real=True)
    assert frechet(first, second) == pytest.approx(float(fid.compute()), rel=1e-5)
    assert kernel_distance(first, second[:30]) == pytest.approx(float(kid.compute()[0]), rel=1e-4)
    score = score_module.InceptionScore(feature=flat, splits=1)
    score.update(a)
    assert inception_score(first, 1)[0] == pytest.approx(float(score.compute()[0]), rel=1e-5)
    assert frechet(first[:3], second) > 0  # fewer images than features


def test_inception_score_of_known_classes() -> None:
    """Sure and even over five classes: 5; unsure: 1."""
    assert inception_score(np.tile(np.eye(5) * 100, (20, 1)), 10)[0] == pytest.approx(5)
    assert inception_score(np.zeros((20, 5)), 10) == pytest.approx((1, 0))


def test_large_sets_are_subsampled() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(90, 4)), random.normal(size=(90, 4)) + 1
    assert kernel_distance(a, b, 20, 50) == pytest.approx(kernel_distance(a, b), rel=0.2)
    assert kernel_distance(a, b, 20, 50) == kernel_distance(a, b, 20, 50)
