"""``rddm restore`` of large photos as a photographer calls it: seconds and memory, said before and used."""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from rddm.engines import ENGINES
from rddm.model import load
from rddm.report import Table
from rddm.restore import OVERLAP, prepare, run

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "low-light" / "input" / "22.png"
PHOTOS = ((1000, 750, "float32"), (4000, 3000, "float32"), (4000, 3000, "int8"), (4000, 3000, "bfloat16"))


def large_photo(width: int, height: int) -> np.ndarray:
    """Return the sample scaled up, with noise of its own, as a camera of that size has."""
    picture = np.array(Image.open(SAMPLE).convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).normal(0, 2, picture.shape)
    return (picture + grain).clip(0, 255).astype(np.uint8)


def restored(source: Path, target: Path, engine: str) -> tuple[float, int, int]:
    """Return the seconds of the command, the bytes that it said it would take, and those it took at most."""
    command = [sys.executable, "-m", "rddm", "restore", str(source), "-o", str(target), "--model", "low-light"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--engine", engine], stdout=subprocess.PIPE, text=True)
    watch, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watch.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    told = process.communicate()[0]
    seconds = time.perf_counter() - began
    found = re.search(r"about ([\d.]+) (MB|GB)", told)
    if process.returncode or not found:
        raise SystemExit(f"rddm restore failed:\n{told}")
    return seconds, round(float(found[1]) * {"MB": 1e6, "GB": 1e9}[found[2]]), peak


def seams(engine: str, tile: int = 512) -> float:
    """Return the mean difference to the same photo in one piece along the borders of tiles, of 255."""
    model, crop = load("low-light").optimize(engine), large_photo(4000, 3000)[:1024, :1024]
    job = prepare(model, *crop.shape[:2], tile=tile)
    whole = run(prepare(model, *crop.shape[:2], tile=0), crop)
    difference = np.abs(run(job, crop).astype(float) - whole)
    lines = {tile.top + OVERLAP // 2 for row in job.rows[1:] for tile in row}  # square: tops and lefts are alike
    return float(np.mean([difference[y - 2 : y + 2].mean() + difference[:, y - 2 : y + 2].mean() for y in lines]) / 2)


def photo() -> tuple[Table, dict[str, Any]]:
    """Return what the command takes for photos of several sizes."""
    rows, facts, pictures = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for width, height, engine in PHOTOS:
            if not ENGINES[engine].runs(torch.device("cpu")):
                continue
            source, target = Path(folder) / f"{width}.jpg", Path(folder) / f"{width}-{engine}-out.jpg"
            Image.fromarray(large_photo(width, height)).save(source, quality=95)
            seconds, said, used = restored(source, target, engine)
            pictures[width, engine] = np.asarray(Image.open(target), np.float32)
            off = float(np.sqrt(np.mean((pictures[width, engine] - pictures[width, "float32"]) ** 2)))
            name = f"{width}x{height} {engine}"
            facts[name] = {"seconds": seconds, "said": said, "used": used, "off": off, "seams": seams(engine)}
            sizes = [f"{used / 1e6:.0f}", f"{said / 1e6:.0f}", f"{said / used - 1:+.0%}"]
            rows.append([name, f"{seconds:.1f}", *sizes, f"{off:.2f}", f"{facts[name]['seams']:.2f}"])
    head = ("rddm restore", "s", "MB used", "MB said before", "error", "off by (rms of 255)", "at seams")
    return Table(head, rows), facts
