"""Where the tests find their data: ``../shared`` when it lies beside the checkout, else they skip and say so."""

import os
import re
from pathlib import Path

import pytest
import torch

SHARED = Path(os.environ.get("RDDM_SHARED", Path(__file__).resolve().parents[2] / "shared"))


OWN = Path(__file__).parent / "golden"
torch.set_num_threads(1)  # the tests' networks are so small that a second thread costs more than it gives


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the golden files that the passed tests covered."""
    ids = [report.nodeid for report in terminalreporter.getreports("passed") if "golden" in report.nodeid]
    files = sorted(set(re.findall(r"[\w/.-]+\.(?:safetensors|pt|json)", " ".join(ids))))
    if files:
        terminalreporter.write_line(f"golden files covered ({len(files)}):")
        for file in files:
            terminalreporter.write_line(f"  {file}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays and data, or a skip."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"{SHARED} is absent: golden arrays and data sets are not part of the repository")
    return SHARED


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Path:
    """Arrays recorded by running the authors' code: all of them, or the few of our own that suffice for this test."""
    if (SHARED / "golden").is_dir():
        return SHARED / "golden"
    values = request.node.callspec.params.values() if hasattr(request.node, "callspec") else ()
    files = [value for value in values if isinstance(value, str) and "/" in value]
    if not files or not all((OWN / file).exists() for file in files):
        pytest.skip(f"{SHARED} is absent, and with it the golden arrays of this test")
    return OWN


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``rddm bench`` found on this machine is not to change what tests see."""
    monkeypatch.setenv("RDDM_CACHE", str(tmp_path_factory.mktemp("cache")))
