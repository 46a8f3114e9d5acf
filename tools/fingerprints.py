"""Hashes of what the package makes: compare those of two trees to see that a change moved nothing but the walls.

    python tools/fingerprints.py --out before.json     # in one tree
    python tools/fingerprints.py --against before.json  # in the other; the exit code tells

Everything is asked by command or by public name, so the script runs on a tree of any layout. The hashes hold on one
machine and one version of torch. Each model's own weights are hashed too: other weights make other pictures.
"""

import argparse
import hashlib
import json
import runpy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import rddm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
SAMPLES = ROOT / "samples" / "low-light"
SIDE = 128
ENGINES = ("float32", "int8")
UPDATES = 12


def digest(*arrays: Any) -> str:
    """Return a short hash of arrays' shapes, dtypes and bytes."""
    found = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def picture(file: Path) -> str:
    """Return the hash of a picture's pixels."""
    return digest(np.asarray(Image.open(file)))


def command(*words: object) -> None:
    """Run ``rddm`` in this process, as ``python -m rddm`` does."""
    sys.argv = ["rddm", *map(str, words)]
    try:
        runpy.run_module("rddm", run_name="__main__")
    except SystemExit as end:
        if end.code not in (0, None):
            raise RuntimeError(f"rddm {' '.join(map(str, words))}: exit code {end.code}") from None


def muon() -> Any:
    """Return the tests' recipe with the optimiser Muon, for ``--recipe fingerprints:muon``."""
    import tiny

    return replace(tiny.recipe(), optimiser="muon")


def photos(folder: Path) -> list[Path]:
    """Write the samples' middles, and return the files: two dark ones and a bright one."""
    files = []
    for kind, name in (("input", "22"), ("input", "79"), ("target", "748")):
        image = Image.open(SAMPLES / kind / f"{name}.png").convert("RGB")
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        files.append(folder / f"{name}.png")
        image.crop((left, top, left + SIDE, top + SIDE)).save(files[-1])
    return files


def restored(found: dict[str, str], name: str, files: list[Path], out: Path) -> None:
    """Add what a model makes of each photo, with each engine."""
    for engine in ENGINES:
        for file in files:
            command("restore", file, "-o", out, "--model", name, "--engine", engine)
            found[f"restore/{name}/{engine}/{file.stem}"] = picture(out)


def pieced(found: dict[str, str], file: Path, out: Path) -> None:
    """Add a photo restored in tiles, the one that needs no model's name, and the Python way."""
    command("restore", file, "-o", out, "--model", "low-light", "--tile", "96", "--engine", "float32")
    found["restore/low-light/tiles"] = picture(out)
    command("restore", file, "-o", out, "--engine", "float32")
    found["restore/chosen"] = picture(out)
    found["restore/python"] = digest(np.asarray(rddm.load("low-light").restore(Image.open(file), steps=3)))


def generated(found: dict[str, str], name: str, files: list[Path], out: Path) -> None:
    """Add two images that a generator makes, a photo that it translates, and a measurement that it undoes."""
    command("generate", "-n", 2, "-o", out, "--model", name, "--seed", 0, "--steps", 5)
    found[f"generate/{name}"] = picture(out)
    command("translate", files[0], "-o", out, "--model", name, "--steps", 4, "--strength", 0.5)
    found[f"translate/{name}"] = picture(out)
    command("solve", files[2], "--operator", "sr(4)", "--simulate", "-o", out, "--model", name, "--steps", 4)
    found[f"solve/{name}"] = picture(out)


def bundled(found: dict[str, str], folder: Path) -> None:
    """Add what every bundled model makes."""
    files, out = photos(folder), folder / "out.png"
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[40:80, 30:100] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    names = sorted(file.parent.name for file in (ROOT / "src").rglob("model.safetensors"))
    for name in names:
        model = rddm.load(name)
        found[f"weights/{name}"] = digest(*(weight.numpy() for weight in model.state_dict().values()))
        if model.spec.method.generates:
            generated(found, name, files, out)
        elif "mask" in model.spec.method.inputs:
            for file in files:
                command("inpaint", file, "--mask", folder / "mask.png", "-o", out, "--model", name)
                found[f"inpaint/{name}/{file.stem}"] = picture(out)
        elif name == "translate":
            command("translate", files[0], "-o", out, "--model", name, "--steps", 4)
            found[f"translate/{name}"] = picture(out)
        else:
            restored(found, name, files, out)
    pieced(found, files[0], out)


def trained(found: dict[str, str], folder: Path) -> None:
    """Add the weights of two short trainings."""
    import tiny
    from safetensors.numpy import load_file

    clean, degraded = tiny.write_pairs(folder / "pairs")
    for recipe in ("tiny:recipe", "fingerprints:muon"):
        out = folder / recipe.replace(":", "-")
        line = ("train", "--clean", clean, "--degraded", degraded, "--recipe", recipe, "--out", out)
        command(*line, "--steps", UPDATES)
        weights = load_file(out / "model" / "model.safetensors")
        found[f"train/{recipe}"] = digest(*(weights[name] for name in sorted(weights)))


def sampled(found: dict[str, str]) -> None:
    """Add what every solver makes on every row of the table, of Gaussian images whose estimate is exact."""
    mean, var = torch.tensor([0.3, -0.4, 0.1]).view(3, 1, 1), torch.tensor([0.04, 0.25, 1.0]).view(3, 1, 1)
    oracle = rddm.GaussianOracle(mean, var)
    for name, row in rddm.METHODS.items():
        x_in = torch.full((1, 3, 4, 4), 0.5) * (row.origin == "input")
        for solver, step in rddm.SOLVERS.items():
            noise = rddm.gaussian(torch.Generator().manual_seed(0))
            found[f"sample/{name}/{solver}"] = outcome(
                partial(rddm.sample, oracle, x_in, row.path.grid(min(row.steps, 8)), step, noise)
            )


def outcome(make: Callable[[], torch.Tensor]) -> str:
    """Return the hash of a tensor, or the class of the complaint."""
    try:
        return digest(make().numpy())
    except (ValueError, rddm.UserError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> int:
    """Write the hashes, or compare them with those of another tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where to write them")
    parser.add_argument("--against", type=Path, help="those of another tree")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # A CPU without VNNI computes int8 as well, only slower and, where it saturates, to other pictures.
    torch.cpu._is_vnni_supported = lambda: True
    found: dict[str, str] = {}
    sampled(found)
    with tempfile.TemporaryDirectory() as folder:
        trained(found, Path(folder))
        bundled(found, Path(folder))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found)} hashes of {rddm.__file__}")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text(encoding="utf-8"))
    changed = [key for key in sorted(before.keys() | found.keys()) if before.get(key) != found.get(key)]
    print("\n".join(changed) if changed else "all equal")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
