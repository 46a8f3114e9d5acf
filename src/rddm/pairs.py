"""Which photographs belong together, and which of them are held out.

Photographs come as a folder or as a list file with one path per line (the ``.flist`` of many published codes). Folders
are paired by the names of their files, lists line by line. What does not pair is an error that names it, because a
data set that silently loses pairs, or pairs the wrong ones, trains a model that nobody can explain.

Neighbours of a collection are often near-duplicates, frames of one scene. So what is held out is a few blocks of
photographs that are contiguous in the natural order of their names, never a random choice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rddm.errors import UserError
from rddm.photo import find_photos

LISTS = (".flist", ".txt", ".lst")
KINDS = ("clean", "degraded", "mask")
HELD_OUT = 24  # at most: enough for a mean, few enough to restore often


@dataclass(frozen=True)
class Photographs:
    """Files that belong together: one list per kind, all of the same length except where nothing pairs them.

    Arguments:
        names: of the clean photographs, in order.
        files: "clean", and where there are any "degraded" and "mask".
    """

    names: list[str]
    files: dict[str, list[Path]]


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """Return a key that sorts 9 before 10, as people number their files."""
    parts = re.split(r"(\d+)", path.name)
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def listed(source: Path) -> list[Path]:
    """Return the photographs of a folder in natural order, or those of a list file in its order.

    Raises:
        UserError: if there are none, or a line of a list names no file.
    """
    if source.suffix.lower() not in LISTS or source.is_dir():
        if not source.is_dir():
            raise UserError(
                f"{source}: no such folder, expected a folder of photographs or a list ({', '.join(LISTS)})"
            )
        return sorted(find_photos([str(source)]), key=natural)
    try:
        lines = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read as a list ({error}), expected one path per line") from None
    files = [on_disk(source, line) for line in lines if line]
    if not files:
        raise UserError(f"{source}: empty list, expected one path per line")
    return files


def on_disk(source: Path, line: str) -> Path:
    """Return the file that a line names, beside the list or from where the program runs.

    Raises:
        UserError: if there is none.
    """
    for candidate in (source.parent / line, Path(line)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{source}: {line}: no such file, neither beside the list nor from here")


def pair_up(sources: dict[str, Path]) -> Photographs:
    """Return the photographs of several kinds, paired by name, or line by line if all come as lists.

    Arguments:
        sources: folders or lists by kind, see ``KINDS``; "clean" is needed.

    Raises:
        UserError: for names or lines without partner.
    """
    found = {kind: listed(source) for kind, source in sources.items()}
    if all(source.is_file() for source in sources.values()):
        for kind, files in found.items():
            if len(files) != len(found["clean"]):
                lines = f"{len(files)} lines, expected the {len(found['clean'])} of {sources['clean']}"
                raise UserError(f"{sources[kind]}: found {lines}")
        return Photographs([path.stem for path in found["clean"]], found)
    by_name = {kind: by_stem(files) for kind, files in found.items()}
    for kind in list(sources)[1:]:
        check_names(sources["clean"], by_name["clean"], sources[kind], by_name[kind])
    names = list(by_name["clean"])
    return Photographs(names, {kind: [files[name] for name in names] for kind, files in by_name.items()})


def unpaired(sources: dict[str, Path]) -> Photographs:
    """Return the photographs of two collections that share no names, to be paired at random."""
    found = {kind: listed(source) for kind, source in sources.items()}
    return Photographs([path.stem for path in found["clean"]], found)


def by_stem(files: Sequence[Path]) -> dict[str, Path]:
    """Return files by their names without suffix.

    Raises:
        UserError: if two have the same.
    """
    named: dict[str, Path] = {}
    for path in files:
        if path.stem in named:
            raise UserError(f"{path}: same name as {named[path.stem].name}, expected one photograph of each name")
        named[path.stem] = path
    return named


def check_names(clean: Path, expected: dict[str, Path], other: Path, found: dict[str, Path]) -> None:
    """Compare the names of two folders.

    Raises:
        UserError: if they are not the same, saying how many pair and which do not.
    """
    lonely = [f"{name} (only in {clean})" for name in expected if name not in found]
    lonely += [f"{name} (only in {other})" for name in found if name not in expected]
    if lonely:
        paired = len(expected.keys() & found.keys())
        shown = ", ".join(lonely[:3]) + (f" and {len(lonely) - 3} more" if len(lonely) > 3 else "")
        raise UserError(f"{clean}, {other}: {paired} pair by name, {len(lonely)} do not: {shown}; expected pairs only")


class Sizes(NamedTuple):
    """What photographs amount to: the least height, the least width, and the pixels of all kinds together."""

    height: int
    width: int
    pixels: int


def check_sizes(photographs: Photographs, paired: bool) -> Sizes:
    """Look at the sizes that all files state.

    Arguments:
        photographs: which.
        paired: whether those of a pair must be of one size.

    Raises:
        UserError: if they must and are not, or there is a file that is no image.
    """
    sizes = {kind: [stated_size(path) for path in files] for kind, files in photographs.files.items()}
    for kind, found in sizes.items() if paired else ():
        for i, ((height, width), (h, w)) in enumerate(zip(found, sizes["clean"], strict=True)):
            if (height, width) != (h, w):
                partner = f"the {w}x{h} of {photographs.files['clean'][i]}"
                raise UserError(f"{photographs.files[kind][i]}: found {width}x{height} pixels, expected {partner}")
    every = [size for found in sizes.values() for size in found]
    return Sizes(min(h for h, _ in every), min(w for _, w in every), sum(h * w for h, w in every))


def stated_size(path: Path) -> tuple[int, int]:
    """Return height and width of a photograph, upright, from the head of its file.

    Raises:
        UserError: if it is no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return image.size if turned else (image.height, image.width)
    except Exception:  # what a decoder raises on damaged files is not limited to any list
        from rddm.photo import read_photo

        return read_photo(path).pixels.shape[:2]  # reads what Pillow does not, or says what is wrong


def hold_out(count: int, share: float = 0.05) -> tuple[list[int], list[int]]:
    """Return the positions to train on and those held out: two contiguous blocks, one quarter from either end.

    Arguments:
        count: how many photographs there are, at least 2.
        share: of them to hold out; at least one, at most ``HELD_OUT``.

    Raises:
        UserError: if there are too few to hold any out.
    """
    if count < 2:
        raise UserError(f"found {count} photograph, expected at least 2: one to train on, one to hold out")
    total = min(max(round(count * share), 1), HELD_OUT)
    blocks = 2 if total >= 2 else 1
    starts = [count // 4, 3 * count // 4][:blocks]
    sizes = [total - total // 2, total // 2][:blocks]
    held = [start + i for start, size in zip(starts, sizes, strict=True) for i in range(size)]
    return [i for i in range(count) if i not in set(held)], held
