"""Contenders in processes of their own, asked in turn: the ratio of each pair of calls, and its median."""

import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONTENDER = Path(__file__).parent / "contender.py"


@dataclass(frozen=True)
class Result:
    """What a contender took: seconds of every call, bytes before the first and at most, and the output if it saved it.

    ``grown`` is what a call adds to the process.
    """

    seconds: list[float]
    before: int
    peak: int
    output: np.ndarray | None

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def grown(self) -> int:
        """Bytes that the calls added."""
        return self.peak - self.before


def command_of(name: str, side: int, threads: int | None, output: Path) -> list[str]:
    """Return the command of a contender of ours by name, or of anyone's, which is a command with spaces."""
    if " " in name:
        return [*shlex.split(name), str(side)]
    more = [] if threads is None else ["--threads", str(threads)]
    return [sys.executable, str(CONTENDER), name, str(side), "--save", str(output), *more]


def side_by_side(names: list[str], side: int, rounds: int = 5, threads: int | None = None) -> dict[str, Result]:
    """Run contenders alternately.

    Arguments:
        names: of ours, or commands.
        side: of the image, in pixels.
        rounds: calls of each, after one that warms up.
        threads: of ours; torch's own number if None.

    Raises:
        SystemExit: if one of them fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / f"{i}.npy" for i, name in enumerate(names)}
        running = {name: start(command_of(name, side, threads, outputs[name])) for name in names}
        for name, process in running.items():
            if answer(process) != "ready":
                raise SystemExit(f"{name}: expected the line 'ready' (see benchmarks/contender.py)")
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, process in running.items():
                seconds[name].append(float(ask(process)))
        sizes = {name: [int(part) for part in process.communicate()[0].split()] for name, process in running.items()}
        saved = {name: np.load(file) if file.exists() else None for name, file in outputs.items()}
    return {name: Result(seconds[name], *sizes[name], saved[name]) for name in names}


def start(command: list[str]) -> "subprocess.Popen[str]":
    """Start a contender."""
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: "subprocess.Popen[str]") -> str:
    """Have a contender make a call, and return what it says."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return answer(process)


def answer(process: "subprocess.Popen[str]") -> str:
    """Return a contender's next line."""
    assert process.stdout
    return process.stdout.readline().strip()


def ratio(results: dict[str, Result], slow: str, fast: str) -> float:
    """Return the median of one contender's time over the other's, call by call."""
    pairs = zip(results[slow].seconds, results[fast].seconds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def apart(results: dict[str, Result], one: str, other: str) -> float:
    """Return the largest difference of two contenders' outputs; not a number if one saved none."""
    a, b = results[one].output, results[other].output
    return float("nan") if a is None or b is None else float(np.abs(a - b).max())
