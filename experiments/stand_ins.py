"""deepinv where not all that it imports is there, such as torchvision: modules of empty classes stand in for it.

Nothing of ours needs deepinv; where it is compared with, its operators and samplers use none of what is empty here.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

HOME = Path(__file__).resolve().parents[1] / "runs" / "deepinv"
NAMES = (
    "torchvision", "torchvision.datasets", "torchvision.datasets.folder", "torchvision.datasets.utils",
    "torchvision.models", "torchvision.ops", "torchvision.transforms", "torchvision.transforms.functional",
    "torchvision.transforms.v2", "torchvision.utils", "natsort", "einops", "h5py",
)  # fmt: skip
GET = "deepinv is not installed: pip install --no-deps --target runs/deepinv deepinv==0.5.0"


class Empty(ModuleType):
    """A module in which every name is an empty class."""

    __path__ = []

    def __getattr__(self, name: str) -> Any:
        """Return the class."""
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **options: None})


def stand_in() -> None:
    """Register a module for each package that is not installed."""
    absent = {name for name in NAMES if "." not in name and not importlib.util.find_spec(name)}
    for name in NAMES:
        parent, _, own = name.rpartition(".")
        if name.split(".")[0] in absent:
            module = sys.modules[name] = Empty(name)
            module.__spec__ = importlib.util.spec_from_loader(name, None)
            if parent:
                setattr(sys.modules[parent], own, module)


def clear() -> None:
    """Take the modules away again; what imported them keeps what it has."""
    for name in [name for name, module in sys.modules.items() if isinstance(module, Empty)]:
        del sys.modules[name]


def deepinv(folder: Path = HOME) -> Any:
    """Return deepinv, installed or in a folder, or None where it is neither."""
    if not importlib.util.find_spec("deepinv"):
        if not (folder / "deepinv").is_dir():
            return None
        sys.path.append(str(folder))
    stand_in()
    try:
        return importlib.import_module("deepinv")
    finally:
        clear()
