"""Where the tests find their data: ``../shared`` when it lies beside the checkout, else they skip and say so."""

import os
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("RDDM_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Keep timings and memory alike on every machine; results do not depend on it beyond round-off."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays and data, or a skip."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"{SHARED} is absent: golden arrays and data sets are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Arrays recorded by running the authors' code."""
    return shared / "golden"
