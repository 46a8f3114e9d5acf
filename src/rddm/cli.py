"""The command line: what each command does with its arguments (``rddm.arguments``).

Every mistake of the user's is one line on the error stream and exit code 2. Heavy modules are imported by the command
that needs them: ``rddm --help`` answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rddm.arguments import parser
from rddm.errors import UserError


def methods(args: argparse.Namespace) -> int:
    """Print the table of methods."""
    from rddm.report import method_table, methods_json, show

    if args.json:
        print(json.dumps(methods_json(), indent=2))
    else:
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

    how = args.steps, args.solver, args.seed, args.tile, args.compare, args.scale, args.engine
    options = Options(*how, args.mask, args.strength, args.realism)
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


def solve(args: argparse.Namespace) -> int:
    """Solve an inverse problem."""
    from rddm.solve import Options, solve_file

    options = Options(
        args.steps, args.solver, args.seed, args.noise, args.jumps, args.simulate, args.compare, args.photons
    )
    solve_file(args.input, args.out, args.operator, args.guidance, args.model, args.device, options)
    return 0


def bench(args: argparse.Namespace) -> int:
    """Measure the engines on this machine and remember the best."""
    from rddm.batch import choose_device
    from rddm.bench import bench as measured

    measured(args.model, choose_device(args.device), args.side)
    return 0


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
    from rddm.heap import keep_freed
    from rddm.options import Options
    from rddm.train import train_command

    keep_freed()  # of the whole process, which is why no library function does it
    sources = args.clean, args.degraded, args.mask, args.degrade
    run = args.recipe, args.method, args.initial, args.out, args.steps, args.time, args.resume
    train_command(Options(*sources, *run, args.seed, args.precision, args.restorer))
    return 0


def compare_methods(args: argparse.Namespace) -> int:
    """Train rows alike, print the table, and write figures and pictures."""
    from rddm.comparison import Terms, compared

    names = [name.strip() for name in args.methods.split(",") if name.strip()]
    sources = {kind: path for kind in ("clean", "degraded") if (path := getattr(args, kind)) is not None}
    try:
        terms = Terms(args.steps, args.side, args.batch, args.fit, args.degrade, args.seed, args.loss)
        compared(terms, sources, names, args.out)
    except ValueError as error:
        raise UserError(str(error)) from None
    print(f"{args.out}: comparison.json, calls.png, comparison.png")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Score a model or a folder of outputs, print the means and write the results."""
    from rddm.evaluate import Options, prepared
    from rddm.evaluate import evaluate as scored
    from rddm.learned import has_lpips
    from rddm.page import Gallery, given_line, headline, short_json, write_file, write_results
    from rddm.protocols import OF_SETS
    from rddm.setevaluate import evaluate_sets

    names = (
        "protocol",
        "clean",
        "outputs",
        "degraded",
        "degrade",
        "mask",
        "model",
        "device",
        "steps",
        "seed",
        "runs",
        "engine",
        "realism",
        "names",
        "images",
    )
    also = tuple(name.strip() for name in args.also.split(",") if name.strip())
    options = Options(**{name: getattr(args, name) for name in names}, also=also)
    out = args.out or Path("runs") / f"evaluate-{args.protocol}"
    if args.protocol in OF_SETS:
        print("\n".join(evaluate_sets(options, out, args.json)))
        return 0
    gallery = Gallery()
    report = scored(*prepared(options, gallery.look))
    print("\n".join(filter(None, (headline(report), given_line(report)))))
    written = write_results(report, gallery, out)
    if args.json:
        write_file(args.json, short_json(report).encode())
    missing = "" if "scores.png" in written else "; no plot: matplotlib is not installed"
    print(f"{out}: {', '.join(written)}{missing}")
    if not has_lpips():
        print("no LPIPS: its weights are not at hand; `rddm weights lpips` fetches them once (64 MB)")
    return 0


def weights(args: argparse.Namespace) -> int:
    """Fetch and convert weights of other people's networks."""
    from rddm.weights_lpips import weights_command

    weights_command(args.file)
    return 0


COMMANDS = {
    "restore": restore,
    "generate": generate,
    "inpaint": inpaint,
    "translate": translate,
    "solve": solve,
    "train": train,
    "compare-methods": compare_methods,
    "methods": methods,
    "models": models,
    "bench": bench,
    "convert": convert,
    "evaluate": evaluate,
    "weights": weights,
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
    except BrokenPipeError:  # whoever read the output, as head does, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at the end
        return 1
