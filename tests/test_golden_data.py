"""The authors' data pipeline, of which we keep the equalisation; and that no golden file goes untested."""

from pathlib import Path

import numpy as np
import pytest
import test_golden_losses
import test_golden_sampling
import test_golden_schedules
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from rddm.preprocess import equalisation_tables, equalise

PIPELINE = "data/pipeline.safetensors"
FILES = [PIPELINE]
SIZE = 32
SOURCES = {"0": ("in",), "1": ("gt", "in"), "2": ("gt", "in", "mask")}
Photo = NDArray[np.uint8]


def padded(photo: Photo) -> Photo:
    """Pad an image with black, below and right, to the training size at least and to a multiple of 8."""
    short = [-(-max(side, SIZE) // 8) * 8 - side for side in photo.shape[:2]]
    return np.pad(photo, [(0, short[0]), (0, short[1]), (0, 0)])


def pipeline(photo: Photo, corner: Photo | None, equalised: bool, mirrored: bool, resized: bool) -> Photo:
    """Take one image of a pair through the published steps, in their order: equalisation sees the padding."""
    photo = padded(photo)
    if corner is not None:
        top, left = corner.tolist()
        photo = photo[top : top + SIZE, left : left + SIZE]
    if equalised:
        photo = equalise(photo, equalisation_tables(photo))
    if mirrored:
        photo = photo[:, ::-1]
    if resized:
        image = Image.fromarray(np.ascontiguousarray(photo)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        photo = np.asarray(image)
    return photo


@pytest.mark.parametrize("file", [PIPELINE])
def test_golden_pipeline(golden: Path, file: str) -> None:
    arrays = load_file(golden / file)
    outputs = [key for key in arrays if "/out" in key]
    helpers = [key for key in arrays if key.endswith(("get_pad_size", "crop_rr_cc")) or "/src_" in key]
    assert len(outputs) + len(helpers) == len(arrays)
    for key in outputs:
        case, _, out = key.rpartition("/out")
        size, conditions, *flags = case.split("/")
        equalised, cropped, _, mirrored = (flag.endswith("1") for flag in flags)
        source = SOURCES[conditions[-1]][int(out)]
        photo = arrays[f"{size}/src_{source}"]
        photo = np.repeat(photo[..., None], 3, axis=2) if photo.ndim == 2 else photo
        found = pipeline(photo, arrays.get(f"{case}/crop_rr_cc"), equalised and source == "in", mirrored, not cropped)
        assert np.array_equal(found.transpose(2, 0, 1), arrays[key]), key
    for size in {key.split("/")[0] for key in arrays}:
        photo = arrays[f"{size}/src_in"]
        added = np.array(padded(photo).shape[:2]) - photo.shape[:2]
        assert np.array_equal(added, arrays[f"{size}/get_pad_size"]), size


def test_golden_files_are_all_tested(golden: Path) -> None:
    """Whatever is added to these folders must be added to a test; the weights are the nets of the others."""
    modules = (test_golden_losses, test_golden_sampling, test_golden_schedules)
    tested = {*FILES, *(file for module in modules for file in module.FILES)}
    folders = ("data", "losses", "sampling", "schedules")
    found = {path.relative_to(golden).as_posix() for folder in folders for path in (golden / folder).rglob("*.*")}
    weights = {file for file in found if file.startswith("sampling/weights_")}
    assert len(weights) == 4
    assert found - weights == tested
