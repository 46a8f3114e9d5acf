"""The goals: one row for each figure that a model is to reach, and the test sets that they are measured on.

To add a goal, add a ``Goal`` to a section; a model that does not exist yet is skipped with a line, as is a set that is
not on disk. ``training/goals.py`` measures the rows and writes docs/goals.md; ``training/package.py`` puts those of a
model on its card.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TestSet:
    """A test set.

    Arguments:
        words: what it is.
        clean: the folders or the packed file of its targets, below the data folder.
        degraded: those of its inputs; none if they are made.
        names: a file of the names that are meant, below the data folder.
        less: what the names of photos begin with that are left out: of a camera that a model was trained on, say.
        more: whether it lies below the folder of further sets, which are not among our data.
        where: whence a stranger gets it.
    """

    words: str
    clean: tuple[str, ...]
    degraded: str = ""
    names: str = ""
    less: str = ""
    more: bool = False
    where: str = ""


BERKELEY = "BSDS500 (Arbelaez et al. 2011), images/val"
TEST_SETS = {
    "CBSD68": TestSet("68 photographs", ("bsds500/val",), names="bsds500/cbsd68.txt", where=BERKELEY),
    "67 dry": TestSet(
        "67 photographs that Rain100H's test set shows, held out", ("bsds500/train",), names="bsds500/rain_holdout.txt",
        where="BSDS500, images/train",
    ),
    "Rain100H (10)": TestSet(
        "ten pairs of its test set; the other ninety stay unseen", ("rain100h_dev/target",), "rain100h_dev/input",
        where="Rain100H (Yang et al. 2017)",
    ),
    "PolyU": TestSet("100 pairs of a camera's noise", ("polyu/target",), "polyu/input", where="Xu et al. 2018"),
    "PolyU (other cameras)": TestSet(
        "45 of PolyU's pairs, of Nikon and Sony: denoise-real was trained on Canon's", ("polyu/target",), "polyu/input",
        less="Canon", where="Xu et al. 2018",
    ),
    "LOL": TestSet("15 test pairs of LOL-v1", ("lol/test/target",), "lol/test/input", where="LOL-v1 (Wei et al. 2018)"),
    "Set5": TestSet("5 photographs", ("set5",), where="github.com/jbhuang0604/SelfExSR, data/Set5 and Set14"),
    "Set14": TestSet("14 photographs", ("set14",), where="github.com/jbhuang0604/SelfExSR, data/Set5 and Set14"),
    "cats": TestSet("5,153 cats at 64x64", ("afhq_cat/afhq_cat_64_q95.npz",), where="AFHQ (Choi et al. 2020)"),
    "dogs": TestSet(
        "2,000 photographs of dogs, against the 5,153 cats", ("afhq_cat/afhq_cat_64_q95.npz",),
        "cats_dogs/dogs_photos_64_q95.npz", where="Dogs vs. Cats, by Kaggle",
    ),
    "McMaster": TestSet(
        "18 colourful photographs", ("mcmaster",), more=True, where="github.com/cszn/FFDNet, testsets/McMaster"
    ),
    "42 photos": TestSet(
        "42 clean photographs, McMaster's and Kodak's", ("mcmaster", "kodak"), more=True,
        where="github.com/cszn/FFDNet, testsets/McMaster and testsets/Kodak24",
    ),
    "CC15": TestSet(
        "15 pairs of cameras' noise", ("cc15/target",), "cc15/input", more=True,
        where="github.com/csjunxu/MCWNNM-ICCV2017, Real_ccnoise_denoised_part",
    ),
    "BSD100": TestSet(
        "100 photographs", ("bsd100",), more=True,
        where="github.com/jbhuang0604/SelfExSR, data/BSD100 (image_SRF_4, HR)",
    ),
    "Urban100": TestSet(
        "100 photographs of buildings", ("urban100",), more=True,
        where="github.com/jbhuang0604/SelfExSR, data/Urban100 (image_SRF_4, HR)",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Aim:
    """A figure to be reached.

    Arguments:
        measure: a name in ``MEASURES`` of training/goals.py: psnr, gain, worst, ssim, lpips, frechet, beyond.
        goal: the figure; None if the eye decides, or nobody has set one.
        today: what it was when the goal was set; None if it was not measured.
    """

    measure: str
    goal: float | None = None
    today: float | None = None


@dataclass(frozen=True)
class Goal:
    """A row of the table: one call of ``rddm evaluate``.

    Arguments:
        model: the model; one that does not exist yet is skipped.
        protocol: of ``rddm evaluate``.
        test: a name in ``TEST_SETS``.
        aims: the figures to be reached.
        degrade: what makes the inputs, where the set has none.
        best: what others reach, as published or as run here.
        beside: the name of a specialist's row that this one is compared with.
        images: how many; all of the set, or 1000 of a generator, if None.
        options: further ones of ``rddm evaluate``.
    """

    model: str
    protocol: str
    test: str
    aims: tuple[Aim, ...]
    degrade: str = ""
    best: str = ""
    beside: str = ""
    images: int | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the row, and a card's score, is called by."""
        return " ".join(filter(None, (self.model, self.protocol, self.test, self.degrade, *self.options)))


@dataclass(frozen=True)
class Section:
    """Rows that belong together, under a sentence that says how they are measured."""

    title: str
    words: str
    goals: tuple[Goal, ...] = field(default_factory=tuple)


def noise(test: str, level: int, today: float, goal: float, best: str) -> Goal:
    """Return a goal on Gaussian noise."""
    return Goal("denoise", "denoise-rgb", test, (Aim("psnr", goal, today),), f"awgn({level})", best)


def left_alone(model: str) -> Goal:
    """Return the goal that a clean photo stays as it is, on average and at worst."""
    return Goal(model, "denoise-rgb", "42 photos", (Aim("psnr", 40), Aim("worst", 35)), "noise(0)")


def gain(
    model: str, protocol: str, test: str, degrade: str, goal: float | None, today: float | None, best: str
) -> Goal:
    """Return a goal on what is gained over the input."""
    return Goal(model, protocol, test, (Aim("gain", goal, today),), degrade, best)


def never_below(protocol: str, test: str, degrade: str, beside: str, today: float | None = None) -> Goal:
    """Return the goal that the model for everything does no harm, beside a specialist."""
    return Goal("all-in-one", protocol, test, (Aim("gain", 0, today),), degrade, beside=beside)


MOTION, DEFOCUS = ("motion(9) + noise(1)", "motion(15) + noise(1)"), "defocus(2.5) + noise(1)"
SECTIONS = (
    Section(
        "Gaussian noise",
        "`denoise-rgb`: PSNR on RGB at full size, the model not told the level. The noise is that of the published "
        "tables, unclipped (`awgn`); we clip it before the model sees it, as a file would.",
        (
            noise("CBSD68", 15, 32.26, 34.1, "FFDNet 33.87, DRUNet 34.30"),
            noise("CBSD68", 25, 29.64, 31.5, "FFDNet 31.21, DRUNet 31.69"),
            noise("CBSD68", 50, 26.34, 28.3, "FFDNet 27.96, DRUNet 28.51"),
            noise("McMaster", 15, 30.80, 34.7, "FFDNet 34.66"),
            noise("McMaster", 25, 29.01, 32.4, "FFDNet 32.35"),
            noise("McMaster", 50, 26.35, 29.3, "FFDNet 29.18"),
        ),
    ),
    Section(
        "Clean photos, left alone",
        "`denoise-rgb` with `noise(0)`: nothing is amiss, and the figures are the PSNR from input to output, the "
        "mean over the photos and the worst of them. (Without `--model`, what `rddm restore` chose had 36.0 and "
        "27.5.)",
        tuple(map(left_alone, ("denoise", "denoise-real", "derain", "deblur", "jpeg", "upscale", "all-in-one"))),
    ),
    Section(
        "A camera's noise",
        "`real-noise-rgb`: PSNR on RGB at full size, on pairs of photos.",
        (
            Goal("denoise-real", "real-noise-rgb", "CC15", (Aim("psnr", 36.5, 36.35),), best="MAXIM 36.5, run here"),
            Goal("denoise-real", "real-noise-rgb", "PolyU (other cameras)", (Aim("psnr", None, 38.18),)),
            Goal("denoise", "real-noise-rgb", "PolyU", (Aim("psnr", None, 36.73),), best="ScoreDVI 37.77, if alike"),
        ),
    ),
    Section(
        "Rain",
        "`rain100h-y`: PSNR on Y at full size. The whole test set, which stays unseen, had 19.2 dB, input 13.5; "
        "these are ten of its pairs, and rain that we draw ourselves.",
        (
            Goal(
                "derain", "rain100h-y", "Rain100H (10)", (Aim("psnr", 27),),
                best="on the whole: MAXIM 30.7 run here, IR-SDE 31.65",
            ),
            Goal("derain", "rain100h-y", "67 dry", (Aim("psnr"), Aim("gain")), "heavy_rain"),
            Goal("derain", "rain100h-y", "67 dry", (Aim("psnr", None, 32.92), Aim("gain")), "rain"),
        ),
    ),
    Section(
        "Blur",
        "`deblur-rgb`: PSNR on RGB at full size; what counts is the gain over the blurred photo, which has a little "
        "noise.",
        (
            gain("deblur", "deblur-rgb", "CBSD68", MOTION[0], 2.0, 0.2, "MAXIM +3.4 run here; told the kernel: +2"),
            gain("deblur", "deblur-rgb", "CBSD68", MOTION[1], 1.5, 0.15, "MAXIM +3.4 run here; told the kernel: +2"),
            gain("deblur", "deblur-rgb", "CBSD68", DEFOCUS, 2.0, 0.4, "MAXIM +3.4 run here; told the kernel: +2"),
        ),
    ),
    Section(
        "JPEG",
        "`jpeg-rgb`: PSNR on RGB at full size; what counts is the gain over the JPEG file.",
        (
            gain("jpeg", "jpeg-rgb", "CBSD68", "jpeg(10)", 1.8, 1.0, "FBCNN +2.1; +2.01 on BSDS500 test"),
            gain("jpeg", "jpeg-rgb", "42 photos", "jpeg(10)", 1.8, None, "FBCNN +2.1; +2.01 on BSDS500 test"),
            gain("jpeg", "jpeg-rgb", "CBSD68", "jpeg(20)", None, 0.95, "FBCNN +1.93 on BSDS500 test"),
            gain("jpeg", "jpeg-rgb", "CBSD68", "jpeg(40)", None, 0.93, "FBCNN +1.84 on BSDS500 test"),
        ),
    ),
    Section(
        "Enlarging four times",
        "`sr4-y`: PSNR on Y less 4 pixels at each border; what counts is the gain over bicubic enlargement.",
        (
            gain("upscale", "sr4-y", "Set5", "downscale(4)", None, 2.28, "EDSR +4.04"),
            gain("upscale", "sr4-y", "Set14", "downscale(4)", None, 1.50, "EDSR +2.80"),
            gain("upscale", "sr4-y", "BSD100", "downscale(4)", 1.5, 1.0, "EDSR +1.75"),
            gain("upscale", "sr4-y", "Urban100", "downscale(4)", 2.2, 1.2, "SPAN +2.7 run here, EDSR +3.5"),
        ),
    ),
    Section(
        "One model for everything",
        "By the specialists' protocols: never below its input, and within 0.5 dB of the specialist, whose PSNR "
        "stands in the last column.",
        (
            never_below("denoise-rgb", "CBSD68", "awgn(25)", "denoise denoise-rgb CBSD68 awgn(25)"),
            never_below("real-noise-rgb", "CC15", "", "denoise-real real-noise-rgb CC15"),
            never_below("rain100h-y", "Rain100H (10)", "", "derain rain100h-y Rain100H (10)"),
            never_below("rain100h-y", "67 dry", "heavy_rain", "derain rain100h-y 67 dry heavy_rain"),
            never_below("deblur-rgb", "CBSD68", MOTION[0], f"deblur deblur-rgb CBSD68 {MOTION[0]}", 0.0),
            never_below("deblur-rgb", "CBSD68", DEFOCUS, f"deblur deblur-rgb CBSD68 {DEFOCUS}", 0.0),
            never_below("jpeg-rgb", "CBSD68", "jpeg(10)", "jpeg jpeg-rgb CBSD68 jpeg(10)"),
            never_below("jpeg-rgb", "42 photos", "jpeg(10)", "jpeg jpeg-rgb 42 photos jpeg(10)", -0.2),
        ),
    ),
    Section(
        "Low light",
        "`lol-256-y` is the paper's: 256x256, PSNR and SSIM on Y. `lol-rgb`: PSNR and SSIM on RGB at full size, "
        "without help from the target's mean.",
        (
            Goal(
                "low-light", "lol-256-y", "LOL",
                (Aim("psnr", 25.39, 24.82), Aim("ssim", 0.937, 0.9095), Aim("lpips", 0.116, 0.149)),
                best="the paper 25.39 / .937 / .116",
            ),
            Goal(
                "low-light", "lol-rgb", "LOL", (Aim("psnr", 23.5, 21.83), Aim("lpips", 0.105, 0.185)),
                best="MAXIM 23.4; FoD 21.61 at LPIPS .105",
            ),
        ),
    ),
    Section(
        "Holes",
        "`holes`: PSNR on RGB within the holes alone; what counts is the gain over the smooth filling that the model "
        "starts from. LPIPS is of the whole photo.",
        (
            Goal("inpaint", "holes", "CBSD68", (Aim("gain", 1.0, -0.68), Aim("lpips")), "irregular_mask(0.1)"),
            Goal("inpaint", "holes", "CBSD68", (Aim("gain", None, -0.77), Aim("lpips")), "centre_mask(0.02)"),
        ),
    ),
    Section(
        "Cats from noise",
        "`generation`: the Frechet distance of wavelet features (not FID) of 1000 images to real ones; what real "
        "ones have stands beside it. Whether the cats convince is for the eye.",
        (
            Goal("cats", "generation", "cats", (Aim("frechet", None, 19.5),), images=1000),
            Goal("cats-plane", "generation", "cats", (Aim("frechet"),), images=1000),
            Goal("cats-time", "generation", "cats", (Aim("frechet"),), images=1000),
        ),
    ),
    Section(
        "Dogs into cats",
        "`translation`: the same distance of 500 dogs turned into cats, to real cats; below the distance of the "
        "untouched dogs, that is below 0 beyond it.",
        (Goal("translate", "translation", "dogs", (Aim("frechet", None, 44.1), Aim("beyond", 0, 28.3)), images=500),),
    ),
    Section(
        "Shadows and drops",
        "Drawn by us on CBSD68, the shadow's mask shown to the model; 256x256, as `istd-256` and `raindrop-256-y` "
        "have it. What counts is the gain over the input.",
        (
            Goal("shadow", "istd-256", "CBSD68", (Aim("gain", 0),), "shadow"),
            Goal("drops", "raindrop-256-y", "CBSD68", (Aim("gain", 0),), "drops"),
        ),
    ),
)  # fmt: skip
GOALS = {goal.name: goal for section in SECTIONS for goal in section.goals}
