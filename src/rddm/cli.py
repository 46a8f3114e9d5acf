"""The command line: ``rddm restore | methods | models | convert | evaluate``.

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
    commands.add_parser("methods", help="print the table of methods")
    commands.add_parser("models", help="list the bundled models with data, cost and scores")
    convert = commands.add_parser("convert", help="turn an RDDM authors' checkpoint into a model of ours")
    convert.add_argument("checkpoint", type=Path, help="the authors' model-N.pt")
    convert.add_argument("out", type=Path, help="folder to write")
    convert.add_argument("--weights", choices=["ema", "raw"], default="ema", help="averaged (published results) or raw")
    convert.add_argument("--objective", default="auto", help="auto, pred_res, pred_noise, pred_res_noise, ...")
    convert.add_argument("--equalise", action="store_true", help="the input was histogram-equalised in training (LOL)")
    add_evaluate(commands.add_parser("evaluate", help="score a model on pairs of photos by a named protocol"))
    return top


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm evaluate``."""
    command.add_argument("--protocol", required=True, choices=["lol-rgb", "lol-256-y"])
    command.add_argument("--clean", type=Path, required=True, help="folder of targets")
    command.add_argument("--degraded", type=Path, required=True, help="folder of inputs of the same names")
    command.add_argument("--model", default="low-light", help="bundled name, folder or hub repository")
    command.add_argument("--steps", type=int, help="network calls; the model's own number if not given")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, help="also write the figures of every image here")


def add_restore(command: argparse.ArgumentParser) -> None:
    """Add the options of ``rddm restore``."""
    command.add_argument("inputs", nargs="+", metavar="IN", help="photo, folder or pattern")
    command.add_argument("-o", "--out", type=Path, required=True, help="file for one photo, folder for several")
    command.add_argument("--model", default="low-light", help="bundled name, folder or hub repository")
    command.add_argument("--steps", type=int, help="network calls per tile; the model's own number if not given")
    command.add_argument("--solver", choices=["ancestral", "euler", "heun", "ab2", "dpm++"], help="how to step")
    command.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    command.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    command.add_argument(
        "--tile", type=tile_side, default=None, metavar="auto|N|off", help="side of the tiles in pixels"
    )
    command.add_argument("--compare", action="store_true", help="also write input | output side by side")


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

    options = Options(args.steps, args.solver, args.seed, args.tile, args.compare)
    return 2 if restore_files(args.inputs, args.out, args.model, args.device, options) else 0


def convert(args: argparse.Namespace) -> int:
    """Convert a checkpoint."""
    from rddm.convert import convert_published

    model = convert_published(args.checkpoint, args.out, args.weights, args.objective, args.equalise)
    print(f"{args.out}: {model.spec.name}, {model.spec.card['parameters']:,} parameters, from {args.checkpoint}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Score a model and print the means."""
    from rddm.model import load
    from rddm.protocols import PROTOCOLS, to_json
    from rddm.protocols import evaluate as scored

    scores = scored(load(args.model), PROTOCOLS[args.protocol], args.clean, args.degraded, args.steps, args.seed)
    if args.json:
        args.json.write_text(to_json(scores) + "\n", encoding="utf-8")
    mean = scores["mean"]
    print(f"{args.protocol}: {mean.psnr:.2f} dB, SSIM {mean.ssim:.4f} ({len(scores) - 1} images, {args.model})")
    return 0


COMMANDS = {"restore": restore, "methods": methods, "models": models, "convert": convert, "evaluate": evaluate}


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
