"""Lay out the data of the jobs in ``.jobdata``, which git ignores and a device machine is handed: at most 64 MiB a job.

``python jobs/pack.py --data ../shared/data``
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
from PIL import Image

from rddm.pairs import listed
from rddm.preprocess import thumbnail

OUT = Path(".jobdata")


def copy(files: list[Path], folder: Path) -> None:
    """Copy files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / file.name)


def pack_low_light(data: Path) -> None:
    """Pack LOL's crops with the tables and thumbnails of the whole photographs: what a crop cannot tell."""
    for kind in ("input", "target"):
        copy(listed(data / "lol/train_crop256" / kind), OUT / "low-light" / kind)
    tables, same = np.load(data / "lol/equalisation_luts.npz"), np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    names, thumbnails = [], []
    for file in listed(data / "lol/train_256/input_equalised"):  # stored equalised: their own tables are the identity
        small = thumbnail(np.asarray(Image.open(file).convert("RGB")), same)
        names.append(file.stem)
        thumbnails.append(np.rint((small + 1) * 127.5).astype(np.uint8))
    arrays = {"tables": np.stack([tables[f"train/{name}"] for name in names]), "thumbnails": np.stack(thumbnails)}
    np.savez(OUT / "low-light" / "whole.npz", names=np.array(names), **arrays)


def pack_low_light_published(data: Path) -> None:
    """Pack LOL's whole photographs as the paper trains on them."""
    copy(listed(data / "lol/train_256/input_equalised"), OUT / "low-light-published" / "input")
    copy(listed(data / "lol/train_256/target"), OUT / "low-light-published" / "target")


def pack_bsds(data: Path) -> None:
    """Pack BSDS500's train and test photographs (never val), and without those held out for rain."""
    held = set((data / "bsds500/rain_holdout.txt").read_text().split())
    files = listed(data / "bsds500/train") + listed(data / "bsds500/test")
    copy(files, OUT / "bsds500")
    copy([file for file in files if file.stem not in held and file.name not in held], OUT / "bsds500-rain")


def pack_polyu(data: Path) -> None:
    """Pack PolyU's pairs of real noise by camera: Canon's to train on, those of Nikon and Sony to test on."""
    for kind in ("input", "target"):
        for file in listed(data / "polyu" / kind):
            copy([file], OUT / ("polyu-canon" if file.name.startswith("Canon") else "polyu-others") / kind)


def pack_cats(data: Path) -> None:
    """Pack AFHQ's cats, alone with dogs, and with photographs."""
    cats = data / "afhq_cat/afhq_cat_64_q95.npz"
    copy([cats, data / "cats_dogs/dogs_photos_64_q95.npz"], OUT / "cats")
    copy([cats, *listed(OUT / "bsds500")], OUT / "photos-and-cats")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, as ../shared/data")
    folder = parser.parse_args().data
    for pack in (pack_low_light, pack_low_light_published, pack_bsds, pack_polyu, pack_cats):
        pack(folder)
    for part in sorted(OUT.iterdir()):
        size = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
        print(f"{part}: {size / 2**20:.1f} MiB")
