"""Weight files of other people's networks: not part of the package, looked for on disk, read without running them.

They are looked for in ``$RDDM_WEIGHTS`` and in ``~/.cache/rddm/weights``; ``rddm weights`` writes into the first.
"""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rddm.errors import UserError
from rddm.model import check_weights


def weight_folders() -> list[Path]:
    """Return where weight files are looked for."""
    named = os.environ.get("RDDM_WEIGHTS")
    return [*([Path(named)] if named else []), Path.home() / ".cache" / "rddm" / "weights"]


def found_weights(name: str, others: Sequence[Path] = ()) -> Path | None:
    """Return the weight file of that name, None if it is in none of the folders."""
    return next((folder / name for folder in (*weight_folders(), *others) if (folder / name).is_file()), None)


def weights_file(name: str, others: Sequence[Path] = (), advice: str = "RDDM_WEIGHTS names another folder") -> Path:
    """Return the weight file of that name.

    Raises:
        UserError: if it is in none of the folders; it ends with the ``advice``.
    """
    if (found := found_weights(name, others)) is not None:
        return found
    places = " or ".join(map(str, weight_folders()))
    raise UserError(f"{name}: weights not found, expected that file in {places} ({advice})")


def load_weights(net: nn.Module, file: Path, ignored: tuple[str, ...] = ()) -> nn.Module:
    """Fill a network from a file, without running what a pickle may hold, and return it ready to judge.

    Arguments:
        net: the network.
        file: a dictionary of tensors saved by torch, or as safetensors.
        ignored: beginnings of names of what this network has no use for.

    Raises:
        UserError: if the file cannot be read, or names or shapes do not fit.
    """
    try:
        safe = file.suffix == ".safetensors"
        found = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except (
        OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, SafetensorError
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(f"{file}: cannot be read as weights ({reason}), expected a dictionary of tensors") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{file}: found {type(found).__name__}, expected a dictionary of tensors")
    counters = "num_batches_tracked"  # of batch normalisation, of no use here and absent from some files
    kept = {key: v.float() for key, v in found.items() if not key.startswith(ignored) and counters not in key}
    check_weights({key: v for key, v in net.state_dict().items() if counters not in key}, kept, file)
    net.load_state_dict(kept, strict=False)
    return net.eval().requires_grad_(False)
