"""Recipes: functions that return a frozen :class:`rddm.recipe.Recipe`, one for each task, ours and the published.

``restore`` is what ``rddm train`` does unless told otherwise. The published ones follow the paper (Liu et al., CVPR
2024, section 5 and its supplement) and what its code does beyond that: the whole photograph at 256x256, every image
mirrored, no change of the learning rate. Expected scores name their protocol, and who measured them.
"""

from collections.abc import Callable
from dataclasses import replace

from rddm.methods import METHODS, Method
from rddm.nn.compact import CompactConfig
from rddm.nn.unet import UNetConfig
from rddm.prediction import RES_EPS
from rddm.recipe import Average, Phase, Recipe, fitted
from rddm.schedules import PowerPath

PAPER = "published by Liu et al. 2024"
SEEN = replace(METHODS["rddm-res"], inputs=("x_in", "equalised"), context=("quantiles", "thumbnail"))
PLAIN = METHODS["rddm-res"]


def compact(method: Method) -> CompactConfig:
    """Return the shape of our compact network for a row of the table."""
    shape = fitted(CompactConfig(), method)
    assert isinstance(shape, CompactConfig)
    return shape


def restore() -> Recipe:
    """Restore anything from pairs: predicts the residual, and is told the whole photograph's light and content."""
    return Recipe(
        "restore", SEEN, compact(SEEN),
        "LOL: 21.76 dB lol-rgb after 16,000 updates; 20,000 more brought it to 22.01 dB",
        phases=(Phase(0.8, 128, 4), Phase(0.2, 256, 1)), shrink=0.4, jitter=0.02,
    )  # fmt: skip


def auto() -> Recipe:
    """Restore anything, and find out first whether to predict the residual or the noise (``rddm.aosa``)."""
    return replace(restore(), name="auto", choose="certainty")


def denoise() -> Recipe:
    """Remove noise: Gaussian of any level up to 75 of 255, in a third of the pieces a camera's."""
    degrade = "noise(0..75) | noise(0..75) | camera"
    expected = "denoise-rgb CBSD68 29.64 dB at 25 of 255 after 5,979 updates (the bundled model)"
    return Recipe("denoise", PLAIN, compact(PLAIN), expected, degrade=degrade, start_share=0.7)


def denoise_real() -> Recipe:
    """Remove a camera's noise, learned from pairs of real photographs; best begun from ``--initial denoise``."""
    return replace(
        denoise(),
        name="denoise-real",
        degrade="",
        expected="real-noise-rgb 38.18 dB, from 35.69, on PolyU's Nikon and Sony (the bundled model)",
    )


def derain() -> Recipe:
    """Remove rain streaks."""
    expected = "rain100h-y 28.37 dB on 67 photographs held out, heavy_rain, after 6,267 updates (the bundled model)"
    return replace(denoise(), name="derain", degrade="rain | heavy_rain", expected=expected)


def deblur() -> Recipe:
    """Remove motion blur and defocus; also compared in the frequency domain, where blur is a product."""
    degrade = "(motion(1..15) | shake(5..15) | defocus(0.3..3)) + noise(0..2)"
    return replace(
        denoise(),
        name="deblur",
        expected="deblur-rgb CBSD68 23.83 dB, from 23.42, motion(11) + noise(1)",
        degrade=degrade,
        frequency=0.5,
    )


def jpeg() -> Recipe:
    """Remove the blocks, rings and colour spills of JPEG files."""
    expected = "jpeg-rgb CBSD68 26.81 dB, from 25.83, at quality 10 (the bundled model)"
    return replace(denoise(), name="jpeg", expected=expected, degrade="jpeg(5..70)")


def upscale() -> Recipe:
    """Sharpen what was enlarged two to four times, half of it four times."""
    return replace(
        denoise(),
        name="upscale",
        expected="sr4-y Set5 30.70 dB, bicubic 28.42 (the bundled model)",
        degrade="downscale(4) | downscale(2..4)",
    )


def all_in_one() -> Recipe:
    """Remove noise, rain, blur or JPEG's blocks, whichever it finds: it is not told."""
    blur = "(motion(3..21) | shake(9..25) | defocus(1..4)) + noise(0..4)"
    degrade = " | ".join(f"({text})" for text in (denoise().degrade, derain().degrade, blur, jpeg().degrade))
    return replace(
        denoise(),
        name="all-in-one",
        expected="denoise-rgb CBSD68 27.35 dB at 25 of 255 (the bundled model)",
        degrade=degrade,
    )


def realism(base: Recipe, restorer: str) -> Recipe:
    """Return the recipe of a second stage: a flow from restored photos, with a tenth of noise, to clean ones.

    It begins with those of the model's weights that fit.
    """
    method = replace(METHODS["pmrf"], steps=10)
    return replace(
        base, name=f"realism-{restorer}", method=method, network=compact(method), restorer=restorer, initial=restorer,
        expected="not measured yet", start_share=0.0, jitter=0.0, loss="l2", frequency=0.0, metric="loss",
    )  # fmt: skip


def realism_denoise() -> Recipe:
    """Second stage of ``denoise``: from the least error to what looks like a photograph."""
    return realism(denoise(), "denoise")


def realism_low_light() -> Recipe:
    """Second stage of ``low-light``, on pairs."""
    return realism(restore(), "low-light")


def realism_upscale() -> Recipe:
    """Second stage of ``upscale``."""
    return realism(upscale(), "upscale")


def inpaint() -> Recipe:
    """Fill missing parts of 64x64 images, told nothing of where they are (paper, section 5.4)."""
    method = replace(METHODS["rddm"], inputs=(), steps=10)
    network = CompactConfig(in_channels=3, heads=2, widths=(64, 96, 128), blocks=(2, 2, 2))
    return Recipe(
        "inpaint", method, network, "not measured yet", degrade="centre_mask | irregular_mask", augment="flip",
        fit="resize", phases=(Phase(1.0, 64, 16),),
    )  # fmt: skip


def generate() -> Recipe:
    """Generate 64x64 images from noise."""
    method = replace(METHODS["rddm-eps"], name="rddm-generation-eps", origin="zero", inputs=(), steps=10)
    network = CompactConfig(in_channels=3, widths=(64, 96, 128), blocks=(2, 2, 2))
    return Recipe(
        "generate", method, network, "not measured yet", augment="flip", fit="resize", phases=(Phase(1.0, 64, 16),),
        loss="l2", start_share=0.0, metric="loss",
    )  # fmt: skip


def translate() -> Recipe:
    """Translate unpaired 64x64 images from the degraded folder's kind to the clean one's."""
    return replace(inpaint(), name="translate", degrade="", pairing="random", metric="loss")


def published(name: str, expected: str, method: Method, noise: float, steps: int) -> Recipe:
    """Return what the published restorations share: one network, Adam; bbar_T^2 is ``noise``."""
    method = replace(method, path=PowerPath(noise=noise))
    return Recipe(
        name, method, fitted(UNetConfig(), method), f"{expected}, {PAPER}", fit="resize", augment="mirror",
        start_share=0.0, phases=(Phase(1.0, 256, 2),), accumulate=2, steps=steps, optimiser="adam", lr=8e-5,
        weight_decay=0.0, warmup=0, schedule="constant", average=Average(0.995, 10, 100),
        validate_every=10_000, seed=10, metric="loss" if method.generates else "psnr-rgb",
    )  # fmt: skip


def two_nets(recipe: Recipe) -> Recipe:
    """Return a recipe with a residual network and a noise network, trained by RAdam."""
    method = replace(recipe.method, name="rddm", target=RES_EPS)
    channels = fitted(UNetConfig(), method).in_channels
    network = UNetConfig(in_channels=channels, heads="two_nets")
    return replace(recipe, method=method, network=network, optimiser="radam", lr=2e-4, betas=(0.9, 0.999))


def published_low_light() -> Recipe:
    """Low light on LOL: SM-Res, the input equalised at full size."""
    recipe = published("published-low-light", "lol-256-y 25.39 dB, SSIM .937", PLAIN, 1.0, 80_000)
    return replace(recipe, prepare="equalise", metric="psnr-y")


def published_shadow() -> Recipe:
    """Shadows on ISTD: SM-Res-N, told where the shadow is."""
    method = replace(METHODS["rddm"], inputs=("x_in", "mask"), steps=5)
    return two_nets(published("published-shadow", "istd-256 MAE 4.67, 30.91 dB, SSIM .962", method, 0.01, 80_000))


def published_raindrop() -> Recipe:
    """Rain drops on RainDrop: SM-Res-N, trained by Adam."""
    recipe = published("published-raindrop", "raindrop-256-y 32.51 dB, SSIM .9563", METHODS["rddm"], 1.0, 120_000)
    return replace(two_nets(recipe), optimiser="adam", lr=8e-5, betas=(0.9, 0.99), metric="psnr-y")


def published_deblur() -> Recipe:
    """Motion blur on GoPro: SM-Res-N in two steps."""
    method = replace(METHODS["rddm"], steps=2)
    return two_nets(published("published-deblur", "gopro-256-rgb 32.40 dB, SSIM .963", method, 0.01, 400_000))


def published_low_light_raw() -> Recipe:
    """Low light on SID-RGB: SM-Res-N; its noise and steps are not published, those of ISTD stand in."""
    return two_nets(published("published-low-light-raw", "23.97 dB, SSIM .8392", METHODS["rddm"], 0.01, 80_000))


def published_generation() -> Recipe:
    """Generation on CelebA 64x64: SM-N."""
    method = generate().method
    recipe = published("published-generation", "CelebA FID 23.25, IS 2.05 in 10 steps", method, 1.0, 100_000)
    return replace(
        recipe, phases=(Phase(1.0, 64, 128),), accumulate=1, optimiser="radam", lr=2e-4, betas=(0.9, 0.999),
        loss="l2", augment="flip",
    )  # fmt: skip


def published_inpainting() -> Recipe:
    """Inpainting on CelebA-HQ 64x64: SM-Res-N that sees neither mask nor input."""
    method = replace(METHODS["rddm"], inputs=(), steps=10)
    recipe = two_nets(published("published-inpainting", "shown in pictures", method, 1.0, 100_000))
    return replace(recipe, phases=(Phase(1.0, 64, 64),), accumulate=1, degrade="centre_mask", augment="flip")


def published_translation() -> Recipe:
    """Translation of unpaired 64x64 images, such as dogs to cats: SM-Res-N, pairs drawn at random."""
    recipe = replace(published_inpainting(), name="published-translation", degrade="")
    return replace(recipe, pairing="random", metric="loss")


RECIPES: dict[str, Callable[[], Recipe]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        restore, auto, denoise, denoise_real, derain, deblur, jpeg, upscale, all_in_one,
        realism_denoise, realism_low_light, realism_upscale, inpaint, generate, translate,
        published_low_light, published_shadow, published_raindrop, published_deblur, published_low_light_raw,
        published_generation, published_inpainting, published_translation,
    )
}  # fmt: skip
