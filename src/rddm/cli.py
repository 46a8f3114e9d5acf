"""The command line: ``rddm restore | generate | inpaint | translate | train | evaluate | methods | models | convert``.

Every mistake of the user's is one line on the error stream and exit code 2. Heavy modules are imported by the command
that needs them: ``rddm --help`` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rddm.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(prog="rddm", description="Diffusion for image restoration.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_restore(commands.add_parser("restore", help="restore photos: files, folders or patterns"))
    add_generate(commands.add_parser("generate", help="draw images from noise"))
    add_inpaint(commands.add_parser("inpaint", help="fill the missing parts of a photo"))
    add_translate(commands.add_parser("translate", help="turn photos of one kind into another: dogs into cats"))
    commands.add_parser("methods", help="print the table of methods")
    commands.add_parser("models", help="list the bundled models with data, cost and scores")
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
    add_evaluate(commands.add_parser("evaluate", help="score a model on pairs of photos by a named protocol"))
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
    command.add_argument("--out", type=Path, default=Path("runs/train"), help="folder of the run")
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="updates; the recipe's own number if not given")
    length.add_argument("--time", type=duration, help="as many updates as fit into 90s, 10m, 2h")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out")
    command.add_argument("--seed", type=int, help="of weights, pieces, times and noise")
    command.add_argument("--precision", choices=["no", "bf16", "fp16"], help="of the network's passes")


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
    command.add_argument("--clean", type=Path, required=True, help="folder of targets")
    command.add_argument("--outputs", type=Path, help="folder of anyone's outputs, of the same names as the targets")
    command.add_argument("--degraded", type=Path, help="folder of photos to restore, of the same names")
    command.add_argument("--degrade", metavar="TEXT", help='make them from the targets: "noise(25)"')
    command.add_argument("--mask", type=Path, help="folder of shadow masks of the same names, for istd-256")
    command.add_argument("--model", default="low-light", help="bundled name, folder or hub repository")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument("--steps", type=int, help="network calls; the model's own number if not given")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--runs", type=int, default=1, help="seeds, from --seed on; the deviation over them is told")
    command.add_argument("--also", default="", metavar="LIST", help="further metrics: ms-ssim,lpips,fid,kid,is")
    command.add_argument("--out", type=Path, help="folder of the results; runs/evaluate-PROTOCOL if not given")
    command.add_argument("--json", type=Path, help="also write the figures of every image here")


def add_restore(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm restore``."""
    command.add_argument("inputs", nargs="+", metavar="IN", help="photo, folder or pattern")
    command.add_argument("-o", "--out", type=Path, required=True, help="file for one photo, folder for several")
    command.add_argument("--model", help="bundled name, folder or hub repository; chosen for each photo if not given")
    command.add_argument("--steps", type=int, help="network calls per tile; the model's own number if not given")
    command.add_argument("--solver", choices=["ancestral", "euler", "heun", "ab2", "dpm++"], help="how to step")
    command.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument(
        "--tile", type=tile_side, default=None, metavar="auto|N|off", help="side of the tiles in pixels"
    )
    command.add_argument("--scale", type=int, default=1, metavar="N", help="enlarge the photo N times: model upscale")
    command.add_argument("--compare", action="store_true", help="also write input | output side by side")


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
    command.add_argument("--solver", choices=["ancestral", "euler", "heun", "ab2", "dpm++"], help="how to step")
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


def tile_side(text: str) -> int | None:
    """Parse ``auto`` (None), ``off`` (0) or a side in pixels."""
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected auto, off or a number of pixels")
    return int(text)


def methods(args: argparse.Namespace) -> int:
    """Print the table of methods."""
    from rddm.report import method_table, show

    show(method_table())
    return 0


def models(args: argparse.Namespace) -> int:
    """Print the bundled models."""
    from rddm.report import model_table, show

    show(model_table())
    return 0


def restore(args: argparse.Namespace) -> int:
    """Restore photos; the exit code tells whether all went well."""
    from rddm.batch import Options, restore_files

    options = Options(args.steps, args.solver, args.seed, args.tile, args.compare, args.scale)
    return 2 if restore_files(args.inputs, args.out, args.model, args.device, options) else 0


def generate(args: argparse.Namespace) -> int:
    """Generate images."""
    from rddm.generate import Options, generate_files

    options = Options(args.n, args.steps, args.solver, args.seed, args.side, args.path, args.scale)
    generate_files(args.out, args.model, args.device, options)
    return 0


def inpaint(args: argparse.Namespace) -> int:
    """Fill the missing parts of a photo."""
    from rddm.inpaint_file import Options, inpaint_file

    options = Options(args.steps, args.seed, args.compare, args.threshold, args.soft)
    inpaint_file(args.input, args.mask, args.out, args.model, args.device, options)
    return 0


def translate(args: argparse.Namespace) -> int:
    """Translate photos; the exit code tells whether all went well."""
    from rddm.translate import Options, translate_files

    options = Options(args.n, args.steps, args.seed, args.path, args.strength, args.compare)
    return 2 if translate_files(args.inputs, args.out, args.model, args.device, options) else 0


def convert(args: argparse.Namespace) -> int:
    """Convert a checkpoint."""
    from rddm.convert import convert_published
    from rddm.convert_diffusers import convert_diffusers

    if args.checkpoint.is_dir():
        if (args.weights, args.objective, args.equalise) != ("ema", "auto", False):
            raise UserError(f"{args.checkpoint}: --weights, --objective and --equalise are for an authors' model-N.pt")
        model = convert_diffusers(args.checkpoint, args.out)
    else:
        model = convert_published(args.checkpoint, args.out, args.weights, args.objective, args.equalise)
    print(f"{args.out}: {model.spec.name}, {model.spec.card['parameters']:,} parameters, from {args.checkpoint}")
    return 0


def train(args: argparse.Namespace) -> int:
    """Train a model."""
    from rddm.options import Options
    from rddm.train import train_command

    sources = args.clean, args.degraded, args.mask, args.degrade
    run = args.recipe, args.method, args.initial, args.out, args.steps, args.time, args.resume
    train_command(Options(*sources, *run, args.seed, args.precision))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Score a model or a folder of outputs, print the means and write the results."""
    from rddm.evaluate import Options, prepared
    from rddm.evaluate import evaluate as scored
    from rddm.page import Gallery, headline, short_json, write_file, write_results

    names = ("protocol", "clean", "outputs", "degraded", "degrade", "mask", "model", "device", "steps", "seed", "runs")
    also = tuple(name.strip() for name in args.also.split(",") if name.strip())
    gallery = Gallery()
    report = scored(*prepared(Options(**{name: getattr(args, name) for name in names}, also=also), gallery.look))
    print(headline(report))
    out = args.out or Path("runs") / f"evaluate-{args.protocol}"
    written = write_results(report, gallery, out)
    if args.json:
        write_file(args.json, short_json(report).encode())
    missing = "" if "scores.png" in written else "; no plot: matplotlib is not installed"
    print(f"{out}: {', '.join(written)}{missing}")
    return 0


COMMANDS = {
    "restore": restore,
    "generate": generate,
    "inpaint": inpaint,
    "translate": translate,
    "train": train,
    "methods": methods,
    "models": models,
    "convert": convert,
    "evaluate": evaluate,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 2 for a user's mistake."""
    args = parser().parse_args(argv)
    try:
        return COMMANDS[args.command](args)
    except UserError as error:
        print(f"rddm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rddm: interrupted; finished files are kept, nothing is half-written", file=sys.stderr)
        return 130
