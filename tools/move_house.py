#!/usr/bin/env python3
"""Turn a checkout of rddm in the flat layout into the house of rooms: ``move.py CHECKOUT [--python PYTHON]``.

Nothing moves but the walls: files are moved by one table (git sees the renames), and every mention of a module follows: imports
in any form, dotted names in strings and docstrings, paths of files. It stops before it touches anything if it meets a file
of the package that its table does not know, and at the end if a name is left that it cannot place. Then run the
fingerprints and commit.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

MOVES = """
errors errors
# -- diffusion
path diffusion.path
schedules diffusion.schedules
sdes diffusion.sdes
bridges diffusion.bridges
prediction diffusion.prediction
clipping diffusion.clipping
clocks diffusion.clocks
transition diffusion.transition
methods diffusion.methods
denoiser diffusion.denoiser
sample diffusion.sampling
loss diffusion.loss
move diffusion.solvers.base
solvers diffusion.solvers
solvers_flow diffusion.solvers.flow
solvers_sde diffusion.solvers.sde
langevin diffusion.solvers.langevin
edit diffusion.variants.sdedit
reflow diffusion.variants.reflow
refine diffusion.variants.refine
cold diffusion.variants.cold
fadings diffusion.variants.cold_degradations
ode diffusion.variants.likelihood
nn.latent diffusion.variants.latent
# -- guidance, operators, degradations
guidance guidance
guidance.base guidance.base
guidance.blend guidance.blend
guidance.classifier guidance.classifier
guidance.gradient guidance.gradient
guidance.levels guidance.levels
guidance.projection guidance.projection
guidance.table guidance.registry
operators operators
operators.base operators.base
operators.chain operators.chain
operators.circular operators.circular
operators.jpeg operators.jpeg
operators.kronecker operators.kronecker
operators.mask operators.mask
operators.noise operators.noise
operators.phase operators.phase
operators.sensing operators.sensing
operators.text operators.parsing
degradations degradations
degradations.base degradations.base
degradations.blur degradations.blur
degradations.coding degradations.coding
degradations.compose degradations.compose
degradations.drops degradations.drops
degradations.kernels degradations.kernels
degradations.light degradations.light
degradations.masks degradations.masks
degradations.noise degradations.noise
degradations.rain degradations.rain
degradations.scene degradations.scene
degradations.text degradations.parsing
# -- nn
nn nn
nn.compact nn.compact
nn.layers nn.layers
nn.pooled nn.pooled
nn.spatial nn.spatial
nn.unet nn.unet
nn.unet2d nn.diffusers_unet
weights nn.weights
engines nn.engines.registry
heap nn.engines.heap
nn.fused nn.engines.fused
nn.packed nn.engines.packed
nn.winograd nn.engines.winograd
nn.int8 nn.engines.int8
# -- images, metrics
photo images.photo
photo_decode images.decode
photo_encode images.encode
photo_tags images.metadata
photo_scale images.resize
fill images.fill
preprocess images.context
metrics metrics.pixel
matlab metrics.matlab
learned metrics.lpips
inception metrics.inception
wavelet metrics.wavelet
setdistance metrics.sets
# -- models
model models.model
spec models.spec
fitting models.fitting
cost models.cost
memory models.memory
convert models.convert.authors
published models.convert.authors_weights
convert_diffusers models.convert.diffusers
hf models.convert.diffusers_scheduler
# -- tasks
restore tasks.restoration
tiles tasks.tiles
inpaint tasks.inpainting
generate tasks.generation
translate tasks.translation
solve tasks.inverse
walk tasks.batches
triage tasks.triage
# -- training
recipe training.recipe
recipes training.recipes
trainer training.trainer
optimise training.optim
muon training.muon
checkpoint training.checkpoint
journal training.log
plan training.budget
validate training.validation
aosa training.aosa
train training.run
options training.options
pairs training.data.pairs
photos training.data.files
draws training.data.samples
synthetic training.data.synthetic
# -- evaluation
protocols evaluation.protocols
sources evaluation.sources
evaluate evaluation.evaluate
page evaluation.report
comparison evaluation.comparison
# -- cli
cli cli.main
arguments cli.arguments
batch cli.restore
inpaint_file cli.inpaint
bench cli.bench
report cli.listing
"""

ROOMS = {
    "diffusion": "The (abar, bbar) plane: paths, targets, the transition, the table of methods, sampling and the loss.",
    "diffusion.solvers": None,  # its table
    "diffusion.variants": "What stands beside the table of methods: SDEdit, reflow, refinement, cold diffusion, latents.",
    "nn": "Networks: what maps a state and its clock to images.",
    "nn.engines": "How a network is computed: fused, packed, by Winograd's products, on whole numbers, in half the bits.",
    "images": "Photographs in and out, and what a whole photograph tells of its pieces.",
    "metrics": "How far pictures are from their targets, and sets of pictures from other sets.",
    "models": "A model is a network with its specification: how it is loaded, what it costs, and those that come along.",
    "models.convert": "Checkpoints of others, made ours.",
    "tasks": "What is done with a model: restore, inpaint, generate, translate, solve an inverse problem.",
    "training": "From a recipe and pictures to a model: the trainer, what it draws, how it is told, saved and resumed.",
    "training.data": "What training sees: pairs of files, synthetic degradations, pieces of photographs.",
    "evaluation": "Protocols, and how models, methods and anyone's outputs are compared by them.",
    "cli": "The command line: a thin door over the rooms.",
}
OTHER_FILES = {  # of src/rddm, beside modules and the models' folders
    "py.typed": "py.typed",
    "triage.json": "tasks/triage.json",
    "triage.safetensors": "tasks/triage.safetensors",
}
STUDY_FILES = ("log.jsonl", "recipe.json")  # of a model's folder: how it came to be, no part of a wheel
STAY = {"__init__", "__main__"}
FUNCTIONS = {"sample", "transition"}  # public names that are modules' names too: ``rddm.sample`` alone is the function
PUBLIC_AFTER = re.compile(r"\s*(?:import\b|as\b|,|;|$)")
PATCHES = (  # file, old, new: what no table of modules can tell; a missing one is complained of
    ("src/rddm/models/model.py", 'BUNDLED = Path(__file__).parent / "models"', 'BUNDLED = Path(__file__).parent / "bundled"'),
    ("tests/test_docs.py", 'ROOT / "src" / "rddm" / "models").iterdir()', 'ROOT / "src" / "rddm" / "models" / "bundled").iterdir()'),
    (
        "tests/test_docs.py",
        'assert {"config.json", "model.safetensors", "README.md", "log.jsonl"} <= {p.name for p in model.iterdir()}',
        'assert {p.name for p in model.iterdir()} == {"config.json", "model.safetensors", "README.md"}\n'
        '        assert (ROOT / "studies" / "zoo" / model.name / "log.jsonl").exists()',
    ),
    (
        "README.md",
        "each model's folder in `src/rddm/models` holds its card, its recipe and its log.",
        "each model's folder in `src/rddm/models/bundled` holds its card, that in `studies/zoo` its recipe and its log.",
    ),
    ("docs/protocols.md", "`metrics.py` and `matlab.py`", "`src/rddm/metrics/pixel.py` and `src/rddm/metrics/matlab.py`"),
    ("docs/choosing.md", "`src/rddm/triage.safetensors` and `src/rddm/triage.json`", "`src/rddm/tasks/triage.safetensors` and `src/rddm/tasks/triage.json`"),
    ("training/triage.py", "src/rddm/triage.json", "src/rddm/tasks/triage.json"),
    ("docs/decisions/0002-dependencies.md", "`photo_encode.py`", "`images/encode.py`"),
    ("docs/adding-a-method.md", "`schedules.py`, `sdes.py` or `bridges.py`", "`schedules.py`, `sdes.py` or `bridges.py` of `rddm.diffusion`"),
)  # fmt: skip
TEXT = {".py", ".md", ".toml", ".sh", ".yml", ".yaml", ".cff", ".txt", ""}
UNTOUCHED = ("CHANGELOG.md", "LICENSE", "tests/golden/", "constraints.txt")


def table() -> dict[str, str]:
    """Return old module -> new module, both without ``rddm.``."""
    lines = [line.split() for line in MOVES.strip().splitlines() if not line.startswith("#")]
    return dict(lines)


TABLE = table()
PACKAGES = {"guidance", "operators", "degradations", "nn"}  # of the old layout


def git(root: Path, *words: str) -> str:
    """Run git in a checkout."""
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout


def old_file(module: str) -> str:
    """Return an old module's file below src/rddm."""
    return f"{module}/__init__.py" if module in PACKAGES else module.replace(".", "/") + ".py"


def new_file(module: str) -> str:
    """Return a new module's file below src/rddm."""
    stem = module.replace(".", "/")
    return f"{stem}/__init__.py" if module in ROOMS or module in PACKAGES else f"{stem}.py"


def planned(root: Path) -> list[tuple[str, str]]:
    """Return the moves of files, old and new path below the checkout, or stop with the list of what is unknown."""
    tracked = git(root, "ls-files", "src/rddm").split()
    if any(file.startswith("src/rddm/diffusion/") for file in tracked):
        sys.exit(f"{root}: has src/rddm/diffusion, expected the flat layout")
    known = {old_file(module): new_file(new) for module, new in TABLE.items()}
    moves, unknown = [], []
    for path in tracked:
        file = path.removeprefix("src/rddm/")
        if file in known:
            moves.append((path, f"src/rddm/{known[file]}"))
        elif file in OTHER_FILES:
            moves.append((path, f"src/rddm/{OTHER_FILES[file]}"))
        elif file.startswith("models/") and not file.endswith(".py") and file.count("/") == 2:
            _, model, name = file.split("/")
            study = name in STUDY_FILES
            moves.append((path, f"studies/zoo/{model}/{name}" if study else f"src/rddm/models/bundled/{model}/{name}"))
        elif file.removesuffix(".py") not in STAY:
            unknown.append(path)
    if unknown:
        sys.exit("not in the table of moves, add them to MOVES or OTHER_FILES:\n  " + "\n  ".join(unknown))
    gone = sorted(old for old in known if f"src/rddm/{old}" not in tracked)
    if gone:
        print("in the table but not in this checkout (passed over): " + ", ".join(gone))
    targets = [new for _, new in moves]
    assert len(set(targets)) == len(targets), "two files would have one name"
    return [(old, new) for old, new in moves if old != new]


def move_files(root: Path, moves: list[tuple[str, str]]) -> None:
    """Move by way of a folder aside, since old and new names overlap."""
    aside = root / ".moving"
    aside.mkdir()
    for i, (old, _) in enumerate(moves):
        (root / old).rename(aside / str(i))
    for i, (_, new) in enumerate(moves):
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (aside / str(i)).rename(root / new)
    aside.rmdir()
    for folder in sorted((path for path in (root / "src").rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()) or {path.name for path in folder.iterdir()} == {"__pycache__"}:
            shutil.rmtree(folder)
    git(root, "add", "-A", "src", "studies")  # once, so that the rest sees the new names


def write_rooms(root: Path) -> None:
    """Write each room's sentence."""
    for room, sentence in ROOMS.items():
        file = root / "src" / "rddm" / room.replace(".", "/") / "__init__.py"
        if sentence is not None:
            file.write_text(f'"""{sentence}"""\n', encoding="utf-8")
    git(root, "add", "src")


DOTTED = re.compile(r"(?<![\w./-])rddm((?:\.[A-Za-z_]\w*)+)")


class Renamer:
    """Rewrites dotted names; remembers those it cannot place."""

    def __init__(self, public: set[str]) -> None:
        self.public, self.lost = public, defaultdict(set)

    def dotted(self, text: str, file: str) -> str:
        """Return a text whose dotted names of old modules are the new ones."""
        return DOTTED.sub(lambda match: self.one(match, text, file), text)

    def one(self, match: re.Match[str], text: str, file: str) -> str:
        """Return what stands for one dotted name."""
        parts = match[1].lstrip(".").split(".")
        before = text[max(0, match.start() - 40) : match.start()]
        statement = re.search(r"(?:from|import)\s+(?:[\w., ]+,\s*)?$", before) is not None
        for length in (2, 1):
            old = ".".join(parts[:length])
            if len(parts) >= length and old in TABLE:
                rest = parts[length:]
                if old in FUNCTIONS and not statement and not rest and text[match.end() :][:1] != ":":
                    return match[0]
                return ".".join(("rddm", TABLE[old], *rest))
        if parts[0] not in self.public and not parts[0].startswith("__"):
            self.lost[file].add(match[0])
        return match[0]


def from_package(text: str) -> str:
    """Rewrite ``from rddm import MODULE``: to ``from rddm.ROOM import MODULE``, which binds the name that it bound."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    lines = text.splitlines(keepends=True)
    for node in sorted(ast.walk(tree), key=lambda node: -getattr(node, "lineno", 0)):
        if not isinstance(node, ast.ImportFrom) or node.module != "rddm" or node.level:
            continue
        modules = [alias for alias in node.names if alias.name in TABLE and alias.name not in FUNCTIONS]
        if not modules:
            continue
        indent = " " * node.col_offset
        rest = [alias for alias in node.names if alias not in modules]
        made = [f"{indent}from rddm import {', '.join(map(ast.unparse, rest))}\n"] if rest else []
        for alias in modules:
            room, _, leaf = f"rddm.{TABLE[alias.name]}".rpartition(".")
            bound = alias.asname or alias.name
            made.append(f"{indent}from {room} import {leaf}{'' if bound == leaf else f' as {bound}'}\n")
        lines[node.lineno - 1 : node.end_lineno] = made
    return "".join(lines)


def file_paths(text: str) -> str:
    """Rewrite paths such as ``src/rddm/path.py``, and those of the models' folders."""
    for old, new in TABLE.items():
        a, b = old_file(old), new_file(new)
        text = re.sub(rf"(?<![\w/])((?:src/)?rddm/){re.escape(a)}(?!\w)", rf"\g<1>\0{b}", text)
    text = text.replace("\0", "")
    return re.sub(r"\bsrc/rddm/models/(?!bundled|convert|[a-z_]+\.py)", "src/rddm/models/bundled/", text)


def planted(text: str) -> str:
    """Rewrite the files of ``BUGS = {name: ("path.py", good, bad)}``."""

    def one(match: re.Match[str]) -> str:
        return f'("{new_file(TABLE[match[1]])}", ' if match[1] in TABLE else match[0]

    return re.sub(r'\("([a-z_]+)\.py", (?=")', one, text)


def public_names(root: Path) -> set[str]:
    """Return the names that ``rddm/__init__.py`` binds, or gets when asked."""
    tree = ast.parse((root / "src/rddm/__init__.py").read_text(encoding="utf-8"))
    names = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {"load", "Model", "safetensors", "json"}


def rewrite(root: Path, renamer: Renamer) -> None:
    """Rewrite every tracked text."""
    for name in git(root, "ls-files").split("\n"):
        path = root / name
        if not name or path.suffix not in TEXT or name.startswith(UNTOUCHED) or not path.is_file():
            continue
        text = before = path.read_text(encoding="utf-8")
        text = renamer.dotted(file_paths(text), name)
        if path.suffix == ".py":
            text = from_package(text)  # last: what it writes is new already
        if name == "tests/test_planted_bugs.py":
            text = planted(text)
        if text != before:
            path.write_text(text, encoding="utf-8")


def patch(root: Path) -> list[str]:
    """Apply the patches; return the complaints."""
    wrong = []
    for name, old, new in PATCHES:
        path = root / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if old in text:
            path.write_text(text.replace(old, new), encoding="utf-8")
        elif new not in text:
            wrong.append(f"{name}: holds no {old!r}")
    return wrong


def unplaced(root: Path) -> list[str]:
    """Return the imports of modules that do not exist now."""
    source = root / "src"
    wrong = []
    for name in git(root, "ls-files", "*.py").split():
        for node in ast.walk(ast.parse((root / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found = [node.module]
            else:
                found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in found:
                at = source / module.replace(".", "/")
                if module.split(".")[0] == "rddm" and not (at.with_suffix(".py").exists() or (at / "__init__.py").exists()):
                    wrong.append(f"{name}:{node.lineno}: imports {module}, which is not there")
    return wrong


def main() -> None:
    """Move."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--python", default="/work/venv/bin/python", help="one that has ruff")
    options = parser.parse_args()
    root = options.checkout.resolve()
    if git(root, "status", "--porcelain", "--untracked-files=no").strip():
        sys.exit(f"{root}: has changes that are not committed")
    moves = planned(root)
    renamer = Renamer(public_names(root))
    move_files(root, moves)
    write_rooms(root)
    rewrite(root, renamer)
    wrong = patch(root)
    for command in (["check", "--select", "I", "--fix", "-q", "."], ["format", "-q", "."]):
        subprocess.run([options.python, "-m", "ruff", *command], cwd=root, check=True)
    wrong += unplaced(root)
    wrong += [f"{file}: {', '.join(sorted(names))}: no such module or name" for file, names in renamer.lost.items()]
    git(root, "add", "-A", "src", "tests", "docs", "experiments", "benchmarks", "examples", "jobs", "training", "studies")
    git(root, "add", "-u")
    print(f"{len(moves)} files moved")
    if wrong:
        sys.exit("left for a person:\n  " + "\n  ".join(wrong))


if __name__ == "__main__":
    main()
