"""What a run leaves on disk to go on from, and the model it ends with; written aside, renamed, rotated."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rddm.errors import UserError
from rddm.model import CARD, Model, write_aside
from rddm.spec import ModelSpec

STATE = "state-{:09d}.pt"  # images seen
KEPT = 2  # states: the last, and one in case it cannot be read


class Place(NamedTuple):
    """Where a run is: updates and images so far, seconds spent, and the best score with its update."""

    update: int = 0
    images: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_update: int = 0


def save_state(out: Path, state: Mapping[str, Any], images: int) -> None:
    """Write the state of a run, whole or not at all, and delete all but the last ``KEPT``.

    Raises:
        UserError: if it cannot be written.
    """
    path = out / STATE.format(images)
    try:
        write_aside(path, lambda part: torch.save(dict(state), part))
        for old in states(out)[:-KEPT]:
            old.unlink()
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its writer
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written ({reason}); is the disk full? --resume goes on") from None


def states(out: Path) -> list[Path]:
    """Return the saved states of a run, the last one last."""
    return sorted(out.glob(STATE.replace("{:09d}", "*")))


def load_state(out: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the last state that can be read, None if there is none; damaged ones are put aside."""
    for path in reversed(states(out)):
        try:
            return torch.load(path, weights_only=True, map_location=device)
        except Exception:  # the restricted unpickler meets damaged files with errors of any type
            os.replace(path, path.with_suffix(".damaged"))
    return None


def save_model(out: Path, spec: ModelSpec, weights: Mapping[str, Tensor]) -> None:
    """Write a model that ``rddm restore --model`` takes.

    Raises:
        UserError: if it cannot be written.
    """
    model = Model(spec)
    model.net.load_state_dict(weights)
    try:
        (out / CARD).unlink(missing_ok=True)
        model.save_pretrained(out)
    except Exception as error:  # safetensors reports a full disk as an error of its own
        raise UserError(f"{out}: cannot be written ({str(error).splitlines()[0]})") from None
