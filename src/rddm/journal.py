"""What a run tells: JSON lines for machines, TensorBoard, a curve, and on the screen a line with the time left."""

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rddm.errors import UserError
from rddm.model import write_aside

LOG = "log.jsonl"
Say: TypeAlias = Callable[[str], None]


def speaker(speaks: bool) -> Say:
    """Return what prints a line, or does nothing in all processes but the first."""
    console = Console(stderr=True, quiet=not speaks, highlight=False)
    return lambda text: console.print(text, markup=False, soft_wrap=True)


class Journal:
    """Keeps the log of a run in its folder; silent where ``speaks`` is false, as all processes but the first are.

    A run that is resumed from an earlier state than its log's end takes back the lines it will write again.

    Arguments:
        out: the run's folder.
        steps: updates of the whole run.
        update: the last update that counts.
        speaks: whether this process writes and prints.
    """

    def __init__(self, out: Path, steps: int, update: int, speaks: bool) -> None:
        self.out, self.speaks, self.steps = out, speaks, steps
        self.console = Console(stderr=True, quiet=not speaks, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        live = speaks and self.console.is_terminal
        self.progress = Progress(
            *columns, TimeRemainingColumn(), console=self.console, transient=True, disable=not live
        )
        self.task = self.progress.add_task("updates", total=steps, completed=update)
        self.tensorboard = None
        if speaks:
            out.mkdir(parents=True, exist_ok=True)
            kept = [line for line in read_log(out) if line.get("update", 0) <= update]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_aside(out / LOG, lambda part: part.write_text(text, encoding="utf-8"))
            self.file = (out / LOG).open("a", encoding="utf-8")
            self.tensorboard = summary_writer(out / "tensorboard", update)

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def note(self, line: Mapping[str, Any]) -> None:
        """Write a line of the log, and its numbers to TensorBoard.

        Raises:
            UserError: if it cannot be written.
        """
        if not self.speaks:
            return
        try:
            print(json.dumps(line), file=self.file, flush=True)
        except OSError as error:
            raise UserError(f"{self.out / LOG}: cannot be written ({error.strerror})") from None
        if self.tensorboard is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "update":
                    self.tensorboard.add_scalar(name, value, line["update"])

    def close(self) -> None:
        """Close the files."""
        self.progress.stop()
        if self.speaks:
            self.file.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def summary_writer(folder: Path, update: int) -> Any:
    """Return TensorBoard's writer, which forgets what lies after ``update``; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=update + 1)


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log; a line that a killed process did not finish is left out."""
    lines = []
    if (out / LOG).exists():
        for text in (out / LOG).read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines


def clock(seconds: float) -> str:
    """Return a duration as people read it: "12 s", "9.5 min", "3.2 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def seconds_of(text: str) -> float:
    """Parse a duration: ``90s``, ``10m``, ``2h``, ``1.5h``, or minutes as a plain number.

    Raises:
        ValueError: if it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not match or float(match[1]) == 0:
        raise ValueError(f"found {text!r}, expected a duration such as 90s, 10m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "": 60, "h": 3600, "d": 86400}[match[2]]


def write_curve(out: Path, metric: str, baseline: float | None) -> Path | None:
    """Draw the loss and the score of a run's log as ``curve.png``; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    lines = read_log(out)
    figure = Figure(figsize=(8, 6), layout="constrained")
    loss, quality = figure.subplots(2, 1, sharex=True)
    losses = [line for line in lines if "loss" in line]
    loss.plot([line["update"] for line in losses], [line["loss"] for line in losses], linewidth=0.8)
    loss.set_ylabel("training loss")
    if losses and min(line["loss"] for line in losses) > 0:
        loss.set_yscale("log")
    scores = [line for line in lines if "score" in line]
    quality.plot([line["update"] for line in scores], [line["score"] for line in scores], marker="o", markersize=3)
    if baseline is not None:
        quality.axhline(baseline, color="grey", linestyle=":", label=f"the inputs: {baseline:.2f}")
        quality.legend()
    quality.set_ylabel(f"held out: {metric}")
    quality.set_xlabel("updates")
    write_aside(out / "curve.png", lambda part: figure.savefig(part, format="png", dpi=120))
    return out / "curve.png"


class Stopwatch:
    """Adds up how long was waited for data, and how long everything took."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.waited = 0.0

    def wait(self, fetch: Any) -> Any:
        """Return what ``fetch`` returns, its time counted as waiting."""
        start = time.perf_counter()
        result = fetch()
        self.waited += time.perf_counter() - start
        return result

    def lap(self) -> tuple[float, float]:
        """Return the seconds since the last lap and the share of them that was waited, and start anew."""
        now = time.perf_counter()
        seconds, waited = now - self.began, self.waited
        self.began, self.waited = now, 0.0
        return seconds, waited / max(seconds, 1e-9)
