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
ONE_STEP = replace(PLAIN, steps=1)
BACKBONE = CompactConfig(blocks=(2, 3, 3, 2))  # 4.4 GMACs at 256x256


def compact(method: Method) -> CompactConfig:
    """Return the shape of our compact network for a row of the table."""
    shape = fitted(CompactConfig(), method)
    assert isinstance(shape, CompactConfig)
    return shape


def backbone(method: Method) -> CompactConfig:
    """Return the shape of the network that the bundled restorations share, for a row of the table."""
    shape = fitted(BACKBONE, method)
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


def synthetic(name: str, degrade: str) -> Recipe:
    """Return what the restorations trained on drawn degradations share.

    They restore in one step, so all of their draws are at its time. A share of each text is ``noise(0)``: a network
    that never met a good photograph improves every one for the worse.
    """
    expected = f"the scores on the card of the bundled model {name}"
    return Recipe(
        name, ONE_STEP, backbone(ONE_STEP), expected, degrade=degrade, start_share=1.0, shrink=0.3, colour=True,
        phases=(Phase(0.7, 128, 8), Phase(0.3, 256, 2)),
    )  # fmt: skip


def denoise() -> Recipe:
    """Remove noise: Gaussian of any level up to 75 of 255, or a camera's, a part of it in JPEG files."""
    gaussian = "noise(0..75) | noise(0..50) | noise(5..55) | noise(5..55)"
    return synthetic("denoise", f"{gaussian} | camera | (noise(1..40) | camera) + jpeg(75..100) | noise(0)")


def denoise_real() -> Recipe:
    """Remove a camera's noise, learned from pairs of real photographs; best begun from ``--initial denoise``."""
    return replace(synthetic("denoise-real", ""), colour=False)


def derain() -> Recipe:
    """Remove rain streaks, those of Rain100H for the most part; they fall, so nothing is turned upside down."""
    return replace(synthetic("derain", "heavy_rain | heavy_rain | heavy_rain | rain | noise(0)"), augment="flip")


def deblur() -> Recipe:
    """Remove motion blur and defocus; also compared in the frequency domain, where blur is a product."""
    blurs = ("motion(3..17)", "motion(3..25)", "shake(5..21)", "defocus(0.5..4)")
    degrade = " | ".join([*(f"{blur} + noise(0..2)" for blur in blurs), "noise(0)"])
    return replace(synthetic("deblur", degrade), frequency=0.1)


def jpeg() -> Recipe:
    """Remove the blocks, rings and colour spills of JPEG files."""
    return synthetic("jpeg", "jpeg(5..40) | jpeg(5..70) | jpeg(5..95, chroma=1) | jpeg(5..95) | noise(0)")


def upscale() -> Recipe:
    """Sharpen what was enlarged up to four times, most of it four times."""
    return synthetic("upscale", "downscale(4) | downscale(4) | downscale(4) | downscale(2..4) | noise(0)")


def all_in_one() -> Recipe:
    """Remove noise, rain, blur, JPEG's blocks or several of them, whichever it finds: it is not told."""
    single = (
        "noise(0..60)",
        "noise(5..55)",
        "camera",
        "heavy_rain",
        "heavy_rain",
        "rain",
        "jpeg(5..70)",
        "downscale(2..4)",
    )
    blurs = tuple(f"{blur} + noise(0..2)" for blur in ("motion(3..21)", "shake(5..21)", "defocus(0.5..4)"))
    files = ("noise(1..30) + jpeg(40..95)", "camera + jpeg(60..98)", "defocus(0.3..2) + noise(0..10) + jpeg(50..95)")
    return synthetic("all-in-one", " | ".join([*single, *blurs, *files, "noise(0)", "noise(0)"]))


def drops() -> Recipe:
    """Remove rain drops from a window or a lens."""
    return synthetic("drops", "drops | drops | drops | noise(0)")


def shadow() -> Recipe:
    """Remove a shadow whose mask is given."""
    recipe = synthetic("shadow", "shadow | shadow(strength=0..0.6)")
    return with_mask(replace(recipe, name="shadow"))


def realism(base: Recipe, restorer: str) -> Recipe:
    """Return the recipe of a second stage: a flow from restored photos, with a tenth of noise, to clean ones.

    It begins with those of the model's weights that fit.
    """
    method = replace(METHODS["pmrf"], steps=10)
    return replace(
        base, name=f"{restorer}-realism", method=method, network=backbone(method), restorer=restorer, initial=restorer,
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
    """Fill what a mask hides; the network sees it smoothly filled, and where it is."""
    holes = "irregular_mask(0.02..0.3) | irregular_mask(0.02..0.3) | irregular_mask | centre_mask(0.01..0.25)"
    return replace(with_mask(synthetic("inpaint", holes)), prepare="fill")


def with_mask(recipe: Recipe) -> Recipe:
    """Return the recipe with a network that is shown a mask as well."""
    method = replace(recipe.method, inputs=(*recipe.method.inputs, "mask"))
    return replace(recipe, method=method, network=fitted(recipe.network, method))


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
    method = replace(METHODS["rddm"], inputs=(), steps=10)
    network = CompactConfig(in_channels=3, heads=2, widths=(64, 96, 128), blocks=(2, 2, 2))
    return Recipe(
        "translate", method, network, "not measured yet", augment="flip", fit="resize", pairing="random",
        phases=(Phase(1.0, 64, 16),), metric="loss",
    )  # fmt: skip


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
        restore, auto, denoise, denoise_real, derain, deblur, jpeg, upscale, all_in_one, drops, shadow,
        realism_denoise, realism_low_light, realism_upscale, inpaint, generate, translate,
        published_low_light, published_shadow, published_raindrop, published_deblur, published_low_light_raw,
        published_generation, published_inpainting, published_translation,
    )
}  # fmt: skip
