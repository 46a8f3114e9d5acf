"""Enlarging a photograph: sizes, depth, alpha and metadata; and what `downscale` lost is enlarged as it was there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rddm import photo_scale
from rddm.degradations.coding import resized
from rddm.errors import UserError
from rddm.photo import Photo, read_photo
from rddm.photo_scale import enlarged


def test_what_a_photograph_has_is_enlarged() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (7, 9, 3), np.uint16)
    photo = enlarged(Photo(pixels, pixels[..., 0]), 3)
    assert photo.pixels.shape == (21, 27, 3) and photo.pixels.dtype == np.uint16
    assert photo.alpha is not None and np.array_equal(photo.alpha, photo.pixels[..., 0])
    once = Photo(pixels)
    assert enlarged(once, 1) is once
    grey = enlarged(Photo(np.full((4, 4, 1), 200, np.uint8)), 2)
    assert grey.pixels.shape == (8, 8, 1) and (grey.pixels == 200).all()


def test_it_is_the_enlargement_that_the_model_was_trained_on() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 10, 3), np.uint8)
    ours = enlarged(Photo(pixels), 4).pixels
    theirs = resized(torch.from_numpy(pixels).permute(2, 0, 1) / 255, 48, 40).clamp(0, 1)
    gap = np.abs(ours - (theirs * 255).permute(1, 2, 0).numpy())
    assert gap.max() < 0.51  # rounding alone


def test_the_size_in_the_file_is_the_new_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA002] = 10
    Image.new("RGB", (10, 8)).save(tmp_path / "a.jpg", exif=exif)
    block = enlarged(read_photo(tmp_path / "a.jpg"), 2).metadata.exif
    found = Image.Exif()
    found.load(block)
    assert found.get_ifd(0x8769)[0xA002] == 20


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Photo(np.zeros((10, 10, 3), np.uint8))
    monkeypatch.setattr(photo_scale, "MAX_PIXELS", 1000)
    for factor in (0, 4):
        with pytest.raises(UserError, match=f"--scale {factor}: found"):
            enlarged(photo, factor)
