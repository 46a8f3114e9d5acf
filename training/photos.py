"""Make the pack of clean training photographs from public names.

    python training/photos.py --deb walls/ --imagenet imagenet/ --bsds bsds500/ --tests bsds500/val set5 --out photos/

It has three sources, each of which anyone can get by its name:

- ``desktop``: desktop photographs of Debian 12's packages. ``apt-get download mate-backgrounds
  plasma-workspace-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04``, then ``dpkg -x FILE walls`` for each;
  ``--deb`` is the folder ``walls``. They have free licences (CC0, CC-BY, CC-BY-SA, GPL, LGPL); ``photos.txt`` beside
  this script names each photograph with its author and terms. gnome-backgrounds and ukui-wallpapers were looked
  through too, and hold drawings and renderings only.
- ``imagenet``: ``git clone https://github.com/EliSchwartz/imagenet-sample-images``, one photograph for each class of
  ImageNet; ``--imagenet`` is that folder or a bare copy of the repository. It states no terms of its own; ImageNet's
  photographs are for non-commercial research.
- ``bsds500``: Berkeley's segmentation data set (BSDS500, ``BSR/BSDS500/data/images``), with folders ``train`` and
  ``test``, and ``rain_holdout.txt`` with the names of photographs that test sets of deraining show. For research; cite
  Arbelaez et al., Contour Detection and Hierarchical Image Segmentation, PAMI 2011.

Desktop photographs are made smaller, at least two times, which takes noise and JPEG's traces away. The others' bytes
are copied as they are: BSDS500's, and ImageNet's where colour, size and JPEG's quality are good. Whatever resembles a
photograph in the folders of ``--tests`` is left out: BSDS500's 302003, say, is in Set5. What ``rain_holdout.txt`` names
goes to the folder ``bsds500-rain-holdout``; leave that out when a deraining model is trained. ``photos.json`` says for
each file where it comes from, what was left out and why, and which photographs of the pack look alike.
"""

import argparse
import io
import json
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

LIST = Path(__file__).with_suffix(".txt")
LONG = 1600  # pixels of a desktop photograph's long side, at most
SHRINK = 2  # how many times smaller it becomes, at least
SHORT = 256  # pixels of the short side of ImageNet's, at least
TABLE = 7  # mean of the table that luma is divided by in JPEG, below which quality is good
ALIKE = 8  # bits of the hashes that differ, up to which two photographs are taken as one
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
TERMS = {
    "imagenet": "none stated by the repository; ImageNet: non-commercial research",
    "bsds500": "research use, cite Arbelaez et al. 2011",
}
HOLDOUT = "bsds500-rain-holdout"
GROUPS = (("bsds500", HOLDOUT, "desktop"), ("imagenet",))  # the folders that share archives


class Wrong(Exception):
    """What the one who runs the script can put right."""


def pictures(folder: Path) -> list[Path]:
    """Return a folder's image files, those of its subfolders and no links, in order."""
    if not folder.is_dir():
        raise Wrong(f"no folder {folder}")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def hash_of(image: Image.Image) -> np.ndarray:
    """Return 64 bits that say where the small grey image grows brighter to the right.

    Size, brightness, contrast and JPEG change few of them.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def hashes(files: Iterable[Path]) -> np.ndarray:
    """Return the hashes of files (N, 64)."""
    rows = []
    for path in files:
        with Image.open(path) as image:
            rows.append(hash_of(image))
    return np.array(rows, dtype=bool).reshape(-1, 64)


def alike(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the places in ``others`` (N, 64) of hashes that hardly differ from ``one``."""
    return np.flatnonzero((others != one).sum(1) <= ALIKE)


def fault(image: Image.Image, tests: np.ndarray) -> str:
    """Return why a JPEG of ImageNet is left out, or nothing where it is good."""
    if image.mode != "RGB":
        return "not RGB"
    if min(image.size) < SHORT:
        return f"short side below {SHORT}"
    if np.mean(getattr(image, "quantization", {}).get(0, [255])) >= TABLE:
        return "low JPEG quality"
    return "like a test photograph" if len(alike(hash_of(image), tests)) else ""


def sampled(source: Path) -> Iterator[tuple[str, bytes]]:
    """Return names and bytes of ImageNet's files, from a folder or from a repository without a work tree."""
    if (source / "HEAD").is_file() and (source / "objects").is_dir():
        command = ["git", f"--git-dir={source}", "archive", "HEAD"]
        try:
            archive = subprocess.run(command, check=True, capture_output=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise Wrong(f"{source}: git cannot read it ({error})") from None
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content and Path(member.name).suffix.lower() in ENDINGS:
                    yield Path(member.name).stem, content.read()
    else:
        for path in pictures(source):
            yield path.stem, path.read_bytes()


def imagenet(source: Path, tests: np.ndarray, out: Path) -> tuple[dict[str, Any], Counter[str]]:
    """Copy ImageNet's good photographs; return the files' entries, and how many were left out why."""
    entries, dropped = {}, Counter()
    out.mkdir(parents=True, exist_ok=True)
    for name, content in sampled(source):
        with Image.open(io.BytesIO(content)) as image:
            reason, size = fault(image, tests), image.size
        if reason:
            dropped[reason] += 1
            continue
        (out / f"{name}.jpg").write_bytes(content)
        entries[f"imagenet/{name}.jpg"] = {
            "source": "github.com/EliSchwartz/imagenet-sample-images",
            "terms": TERMS["imagenet"],
            "size": size,
        }
    return entries, dropped


def smaller(image: Image.Image) -> Image.Image:
    """Return a photograph at least ``SHRINK`` times smaller, its long side at most ``LONG``, without aliases."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    factor = max(SHRINK, max(image.size) / LONG)
    size = (round(image.width / factor), round(image.height / factor))
    return image.resize(size, Image.Resampling.LANCZOS)


def desktop(deb: Path, tests: np.ndarray, out: Path) -> tuple[dict[str, Any], Counter[str]]:
    """Make the photographs of ``photos.txt`` smaller; return the files' entries, and how many were left out why."""
    rows = [line.split(" | ") for line in LIST.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    dropped = Counter({"no photograph, or soft or noisy (not in photos.txt)": len(pictures(deb)) - len(rows)})
    entries = {}
    out.mkdir(parents=True, exist_ok=True)
    for path, package, terms, author in rows:
        if not (deb / path).is_file():
            raise Wrong(f"no {path} in {deb}: unpack Debian's {package} there (dpkg -x)")
        with Image.open(deb / path) as image:
            made = smaller(image)
        if len(alike(hash_of(made), tests)):
            dropped["like a test photograph"] += 1
            continue
        name = f"{path.split('/')[3] if '/contents/' in path else Path(path).stem}.jpg"
        made.save(out / name, quality=97, subsampling=0, optimize=True)
        source = f"Debian package {package}, {path}"
        entries[f"desktop/{name}"] = {"source": source, "terms": terms, "author": author, "size": made.size}
    return entries, dropped


def bsds(source: Path, tests: np.ndarray, out: Path) -> tuple[dict[str, Any], Counter[str]]:
    """Copy BSDS500's photographs of train and test; return the files' entries, and how many were left out why.

    Those of ``rain_holdout.txt`` are copied even where they are like a test photograph: deraining's tests show them.
    """
    names = source / "rain_holdout.txt"
    if not names.is_file():
        raise Wrong(f"no file {names}")
    held = set(names.read_text(encoding="utf-8").split())
    entries, dropped = {}, Counter({"val: test photographs": len([*(source / "val").glob("*.jpg")])})
    for path in (*pictures(source / "train"), *pictures(source / "test")):
        folder = HOLDOUT if path.stem in held else "bsds500"
        with Image.open(path) as image:
            bits, size = hash_of(image), image.size
        if folder != HOLDOUT and len(alike(bits, tests)):
            dropped["like a test photograph"] += 1
            continue
        (out / folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / folder / path.name)
        entry = {"source": f"BSDS500 {path.parent.name}", "terms": TERMS["bsds500"], "size": size}
        entries[f"{folder}/{path.name}"] = entry
    return entries, dropped


def resembling(files: list[Path], tests: list[Path], tested: np.ndarray) -> list[tuple[str, str]]:
    """Return pairs that look alike: two files of different folders of the pack, or one of them and a test's."""
    own = hashes(files)
    pairs = []
    for i, path in enumerate(files):
        name = f"{path.parent.name}/{path.name}"
        others = (files[i + 1 + j] for j in alike(own[i], own[i + 1 :]))
        pairs += [(name, f"{other.parent.name}/{other.name}") for other in others if other.parent != path.parent]
        pairs += [(name, str(tests[j])) for j in alike(own[i], tested)]
    return pairs


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Make the pack; return what ``photos.json`` says."""
    for folder in (args.deb, args.imagenet, args.bsds, *args.tests):
        if not folder.is_dir():
            raise Wrong(f"no folder {folder}")
    if args.out.is_file() or (args.out.is_dir() and any(args.out.iterdir())):
        raise Wrong(f"{args.out} is there already, and is no empty folder")
    tests = [path for folder in args.tests for path in pictures(folder)]
    tested = hashes(tests)
    entries, dropped = {}, {}
    entries["bsds500"], dropped["bsds500"] = bsds(args.bsds, tested, args.out)
    entries["desktop"], dropped["desktop"] = desktop(args.deb, tested, args.out / "desktop")
    entries["imagenet"], dropped["imagenet"] = imagenet(args.imagenet, tested, args.out / "imagenet")
    files = entries["bsds500"] | entries["desktop"] | entries["imagenet"]
    for name, entry in files.items():
        entry["bytes"] = (args.out / name).stat().st_size
    pairs = resembling([args.out / name for name in files], tests, tested)
    return {"files": files, "dropped": dropped, "alike": pairs}


def pack(folder: Path, out: Path, limit: float) -> list[Path]:
    """Write the tree into archives ``photos-0.tar``, ..., each of less than ``limit`` MB; return them."""
    out.mkdir(parents=True, exist_ok=True)
    parts: list[list[Path]] = []
    for group in GROUPS:
        parts.append([folder / "photos.json"] if not parts else [])
        for path in (path for name in group for path in pictures(folder / name)):
            if sum(file.stat().st_size + 1024 for file in (*parts[-1], path)) + 20480 > limit * 1e6:
                parts.append([])
            parts[-1].append(path)
    for i, files in enumerate(parts):
        with tarfile.open(out / f"photos-{i}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in files:
                entry = tar.gettarinfo(path, f"photos/{path.relative_to(folder).as_posix()}")
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
                with path.open("rb") as file:
                    tar.addfile(entry, file)
    return [out / f"photos-{i}.tar" for i in range(len(parts))]


def parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--deb", type=Path, required=True, help="folder that Debian's packages were unpacked to")
    reader.add_argument("--imagenet", type=Path, required=True, help="imagenet-sample-images, a folder or bare copy")
    reader.add_argument("--bsds", type=Path, required=True, help="folder with train, test and rain_holdout.txt")
    reader.add_argument("--tests", type=Path, nargs="+", required=True, help="folders of photographs to keep out")
    reader.add_argument("--out", type=Path, required=True, help="new folder for the pack")
    reader.add_argument("--tar", type=Path, help="folder for the pack as archives, where a transfer is limited")
    reader.add_argument("--limit", type=float, default=56, help="MB of an archive, at most (default: 56)")
    return reader


def main() -> None:
    """Make the pack, and say how much of what."""
    reader = parser()
    args = reader.parse_args()
    try:
        card = make(args)
    except Wrong as wrong:
        reader.exit(2, f"error: {wrong}\n")
    (args.out / "photos.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in (name for group in GROUPS for name in group):
        sizes = [entry["bytes"] for path, entry in card["files"].items() if path.startswith(f"{name}/")]
        print(f"{name}: {len(sizes)} photographs, {sum(sizes) / 1e6:.1f} MB")
    print(f"left out: {json.dumps(card['dropped'])}; {len(card['alike'])} pairs alike, in photos.json")
    for path in pack(args.out, args.tar, args.limit) if args.tar else ():
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
