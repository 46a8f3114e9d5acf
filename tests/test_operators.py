"""Operators: adjoint, pseudoinverse and decomposition of each; what they measure; every misfit one line."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rddm.degradations import kernels
from rddm.degradations.coding import resized
from rddm.errors import UserError
from rddm.operators import (
    CircularBlur,
    DecomposableOperator,
    Dense,
    GaussianNoise,
    Hadamard,
    Jpeg,
    LinearChain,
    LinearOperator,
    Mask,
    PhaseRetrieval,
    PoissonNoise,
    compose,
    parse_operator,
)

SHAPE = (3, 16, 16)
F64 = torch.float64


def known(seed: int = 0, shape: tuple[int, ...] = (1, 16, 16)) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).double()


def lopsided() -> Tensor:
    """Return a kernel without symmetry, so that a flip would show."""
    kernel = torch.rand(5, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    return kernel / kernel.sum()


def texts(*names: str) -> dict[str, LinearOperator]:
    return {name: parse_operator(name)(SHAPE) for name in names}  # pyright: ignore[reportReturnType]


WITH_SVD = texts(
    "sr(4)", "sr(1)", "bicubic(2)", "blur(1.5)", "blur(7)", "fft_blur(1)", "motion(6, 30)", "grey", "cs(0.25)",
    "random_cs(0.25)", "random_cs(1)", "grey + sr(2)", "blur(0.6) + bicubic(2) + grey",
) | {"mask": Mask(SHAPE, known()), "lopsided": CircularBlur(SHAPE, lopsided())}  # fmt: skip
CHAINS = {
    "old photo": compose([parse_operator("grey + blur(0.5)")(SHAPE), Mask((1, 16, 16), known())]),
    "mask + sr": compose([Mask(SHAPE, known(2)), parse_operator("sr(4)")(SHAPE)]),
}
LINEAR: dict[str, LinearOperator] = WITH_SVD | CHAINS  # pyright: ignore[reportAssignmentType]


def images(count: int = 2, dtype: torch.dtype = F64, seed: int = 3) -> Tensor:
    return torch.rand(count, *SHAPE, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def like(y: Tensor) -> Tensor:
    return torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(4))


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", LINEAR)
def test_the_adjoint(name: str) -> None:
    operator, x = LINEAR[name], images()
    y = like(operator.A(x))
    assert apart((operator.A(x) * y).flatten(1).sum(1), (x * operator.A_adjoint(y)).flatten(1).sum(1)) < 1e-11
    # measured: at most 1e-13


@pytest.mark.parametrize("name", LINEAR)
def test_the_pseudoinverse(name: str) -> None:
    operator, x = LINEAR[name], images()
    y = operator.A(x)
    back = operator.A_dagger(y)
    close = 1e-5 if name in CHAINS else 1e-11  # measured: 2e-6 by conjugate gradients, else 4e-14
    assert apart(operator.A(back), y) < close
    assert apart(operator.A_dagger(operator.A(back)), back) < 1e-2 if name in CHAINS else 1e-8
    moved = like(x)
    unseen = moved - operator.A_dagger(operator.A(moved))  # what A does not see is no part of the pseudoinverse
    assert apart((unseen * back).flatten(1).sum(1), torch.zeros(2, dtype=F64)) < (1e-3 if name in CHAINS else 1e-8)


@pytest.mark.parametrize("name", WITH_SVD)
def test_the_decomposition(name: str) -> None:
    operator, x = WITH_SVD[name], images()
    assert isinstance(operator, DecomposableOperator)
    s = operator.V_adjoint(x)
    y = like(operator.A(x))
    assert apart(operator.V(s), x) < 1e-12 and apart(operator.V_adjoint(operator.V(s)), s) < 1e-12  # measured: 5e-15
    assert float((s.abs() ** 2).sum() / (x**2).sum()) == pytest.approx(1, abs=1e-12)
    assert apart(operator.U(operator.U_adjoint(y)), y) < 1e-12
    assert apart(operator.U(operator.mask * s), operator.A(x)) < 1e-12
    assert (operator.mask >= 0).all() and operator.mask.dtype == F64


@pytest.mark.parametrize("name", LINEAR)
def test_single_precision_in_and_out(name: str) -> None:
    operator, x = LINEAR[name], images(dtype=torch.float32)
    y = operator.A(x)
    assert y.dtype == operator.A_adjoint(y).dtype == operator.A_dagger(y).dtype == torch.float32
    assert apart(y, operator.A(x.double()).float()) < 1e-5  # measured: 2e-6


@pytest.mark.parametrize("name", LINEAR)
def test_each_image_is_measured_by_itself(name: str) -> None:
    operator, x = LINEAR[name], images(3)
    y = operator.A(x)
    for i in range(3):
        assert apart(operator.A(x[i : i + 1]), y[i : i + 1]) < 1e-12
        assert apart(operator.A_dagger(y[i : i + 1]), operator.A_dagger(y)[i : i + 1]) < 1e-9


def test_averages_are_averages_and_bicubic_is_the_one_of_the_degradations() -> None:
    x = images()
    assert apart(LINEAR["sr(4)"].A(x), torch.nn.functional.avg_pool2d(x, 4)) < 1e-12
    expected = resized(x[0].float(), 8, 8).double()
    assert apart(LINEAR["bicubic(2)"].A(x)[0], expected) < 4e-3  # negligible singular values are none; measured 1e-7
    assert apart(LINEAR["grey"].A(x), x.mean(1, keepdim=True)) < 1e-12
    assert apart(LINEAR["grey"].A_dagger(x[:, :1]), x[:, :1].expand_as(x)) < 1e-12
    assert (
        apart(LINEAR["sr(4)"].A_dagger(x[..., :4, :4]), x[..., :4, :4].repeat_interleave(4, 2).repeat_interleave(4, 3))
        < 1e-12
    )


def test_blurs_are_convolutions() -> None:
    x = images()
    expected = kernels.convolve(x[0].float(), kernels.gaussian(1.5)).double()
    assert apart(LINEAR["blur(1.5)"].A(x)[0], expected) < 0.01  # measured 1e-3, by the negligible singular values
    kernel, one = lopsided(), torch.zeros(1, *SHAPE, dtype=F64)
    one[..., 8, 8] = 1
    seen = LINEAR["lopsided"].A(one)[0, 0]
    assert apart(seen[6:11, 7:10], kernel) < 2e-3 and float(seen.sum()) == pytest.approx(1)  # not flipped
    one = one.roll((-8, -8), (2, 3))
    assert apart(LINEAR["lopsided"].A(one)[0, 0], seen.roll((-8, -8), (0, 1))) < 1e-12  # round the border


def test_compressed_sensing_measures_what_it_says() -> None:
    x = images()
    assert LINEAR["cs(0.25)"].A(x).shape == LINEAR["random_cs(0.25)"].A(x).shape == (2, 3, 64)
    operator = Hadamard((1, 4, 4), 1.0)
    matrix = operator.A(torch.eye(16, dtype=F64).view(16, 1, 4, 4))[:, 0]
    assert torch.equal(matrix.abs(), torch.full((16, 16), 0.25, dtype=F64))
    assert apart(matrix @ matrix.T, torch.eye(16, dtype=F64)) < 1e-12
    assert apart(Hadamard(SHAPE, 0.5, 1).A(x), Hadamard(SHAPE, 0.5, 2).A(x)) > 0.1
    given = torch.randn(10, 256, dtype=F64, generator=torch.Generator().manual_seed(5))
    assert apart(Dense(SHAPE, given).A(x), x.flatten(2) @ given.T) < 1e-11


def test_chains_of_separable_operators_are_one_and_order_counts() -> None:
    x = images()
    chain, blurred = LINEAR["blur(0.6) + bicubic(2) + grey"], parse_operator("blur(0.6)")(SHAPE).A(x)
    expected = parse_operator("grey")((3, 8, 8)).A(parse_operator("bicubic(2)")(SHAPE).A(blurred))
    assert isinstance(chain, DecomposableOperator) and apart(chain.A(x), expected) < 5e-3  # measured 2e-15
    old = CHAINS["old photo"]
    assert isinstance(old, LinearChain) and not isinstance(old, DecomposableOperator)
    grey_and_blurred = parse_operator("grey + blur(0.5)")(SHAPE).A(x)
    assert apart(old.A(x), known() * grey_and_blurred) < 1e-12


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_is_what_a_file_keeps(quality: int) -> None:
    """A coefficient at the edge may fall on the other side than libjpeg's: one block then differs by a step of it."""
    small = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(6))
    picture = (torch.nn.functional.interpolate(small, (32, 32), mode="bicubic").clamp(0, 1) * 255).round().byte()
    file = io.BytesIO()
    Image.fromarray(picture[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality, subsampling="4:4:4")
    read = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).double()
    operator = Jpeg((3, 32, 32), quality)
    made = (operator.A(picture.double() / 127.5 - 1)[0] + 1) * 127.5
    off = (made.round() - read).abs()
    assert (off <= 1).double().mean() > 0.85 and off.mean() < 0.8  # levels; measured 0.91 to 0.96, and 0.29 to 0.49
    assert (made - picture[0].double()).abs().mean() > 3 * off.mean()  # measured: 6 to 20 times
    assert not isinstance(operator, LinearOperator)
    twice = operator.A(operator.A_dagger(operator.A(picture.double() / 127.5 - 1)))
    assert (twice[0] * 127.5 + 127.5 - made).abs().mean() < 0.3  # compressed again; measured 0


def test_jpeg_and_phase_retrieval_have_gradients() -> None:
    for operator in (Jpeg(SHAPE, 50), PhaseRetrieval(SHAPE)):
        x = images().requires_grad_()
        (gradient,) = torch.autograd.grad(operator.A(x).square().sum(), x)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0.1
    x = images()
    y = PhaseRetrieval(SHAPE).A(x)
    assert y.shape == (2, 3, 32, 32) and apart(PhaseRetrieval(SHAPE).A(-x), y) < 1e-12
    assert float(y.square().sum() / x.square().sum()) == pytest.approx(1)


def test_noise() -> None:
    y, generator = torch.full((1, 1, 200, 200), 0.2, dtype=F64), torch.Generator().manual_seed(7)
    noisy = GaussianNoise(0.3)(y, generator)
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.02) and float(noisy.mean()) == pytest.approx(0.2, abs=0.01)
    counted = PoissonNoise(50)(y, generator)
    assert float(counted.mean()) == pytest.approx(0.2, abs=0.005)
    assert float(counted.var()) == pytest.approx(4 * 0.6 / 50, rel=0.03)  # of 2 n / 50 with n Poisson of mean 30


def test_what_a_measurement_tells_of_its_noise() -> None:
    y, generator = torch.tensor([-1.0, -0.5, 0.2, 1.0], dtype=F64), torch.Generator().manual_seed(8)
    assert torch.equal(GaussianNoise(0.3).std(y), torch.full_like(y, 0.3))
    told = PoissonNoise(50).std(y)
    assert float(told[0]) == pytest.approx(2 / 50)  # no photon counted is taken for one
    for std, level in zip(told[1:], y[1:]):
        drawn = PoissonNoise(50)(level.expand(100_000), generator)
        assert float(drawn.std()) == pytest.approx(float(std), rel=0.01)  # measured 0.2 %


def test_masks_are_read_from_pictures(tmp_path: Path) -> None:
    Image.fromarray(((1 - known()[0]) * 255).byte().numpy()).save(tmp_path / "a+b.png")
    operator = parse_operator(f"grey + mask({tmp_path}/a+b.png)")(SHAPE)
    x = images()
    assert apart(operator.A(x), known() * x.mean(1, keepdim=True)) < 1e-12


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "operator: found nothing, expected mask(FILE), sr(factor), "),
        ("srr(4)", "operator: found 'srr(4)' (did you mean sr?), expected mask(FILE)"),
        ("sr", "operator sr: found 0 arguments, expected sr(factor)"),
        ("sr(4, 4)", "operator sr(4, 4): found 2 arguments, expected sr(factor)"),
        ("sr(four)", "operator sr(four): found 'four', expected a number in sr(factor)"),
        ("sr(1.5)", "sr: found 1.5, expected a whole number of at least 1"),
        ("sr(3)", "sr(3): found 16x16 pixels, expected multiples of 3, such as 15x15"),
        ("sr(32)", "sr(32): found 16x16 pixels, expected multiples of 32, such as 32x32"),
        ("blur(-1)", "blur(-1): found -1, expected a positive number of pixels"),
        ("motion(40)", "motion(40, 0): found a kernel of 43x43 pixels, expected odd sides of at most 16x16"),
        ("sr(4) + cs(2)", "cs(2): found a share of 2, expected more than 0 and at most 1"),
        ("cs(0.5) + grey", "cs(0.5) + grey: found 3x128 numbers before grey, expected an image"),
        ("jpeg(0)", "jpeg(0): found quality 0, expected 1 to 100"),
        ("grey + jpeg(9)", "jpeg(9): found 1 channels of 16x16 pixels, expected 3 of multiples of 8"),
        ("mask(nowhere.png)", "nowhere.png: "),
    ],
)
def test_texts_that_are_none(text: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        parse_operator(text)(SHAPE)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_images_and_measurements_that_do_not_fit() -> None:
    operator = LINEAR["sr(4)"]
    with pytest.raises(UserError, match=r"^sr\(4\): found an image of 3x8x8, expected 3x16x16$"):
        operator.A(torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match=r"^sr\(4\): found a measurement of 3x16x16, expected 3x4x4$"):
        operator.A_dagger(torch.zeros(1, 3, 16, 16))
    with pytest.raises(UserError, match=r"^mask: found 1x8x8, expected 1x16x16$"):
        Mask(SHAPE, torch.ones(1, 8, 8))
    with pytest.raises(UserError, match="power of two, such as 32x32"):
        Hadamard((3, 12, 12), 0.5)
    with pytest.raises(UserError, match="expected at most 4096"):
        parse_operator("random_cs(0.1)")((3, 128, 128))
