"""The results of an evaluation for people and programs: a headline, a table, JSON, a plot and one page to look at."""

import base64
import html
import importlib.util
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from rddm.batch import make_folder, megabytes
from rddm.errors import UserError
from rddm.evaluate import Change, Interval, Report
from rddm.matlab import Bytes
from rddm.model import write_aside
from rddm.protocols import Scores
from rddm.report import Table, markdown
from rddm.sources import Produced

SHOWN = 3  # cases at either end
WIDEST = 480  # pixels of a picture on the page
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:92rem;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:right}"
    "tr{border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
    "img{max-width:100%;height:auto;display:block}.case{display:flex;gap:.5rem;align-items:flex-start}"
    ".case figure{margin:0;flex:1 1 0;min-width:0}figcaption{font-size:.9rem;color:#555}"
    ".pair{display:grid;grid-template-columns:1fr 1fr;gap:2rem}"
    "@media(max-width:60rem){.pair{grid-template-columns:1fr}}"
)


class Shown(NamedTuple):
    """A case to look at: its name, its PSNR, its other figures, and its pictures as JPEG by caption."""

    name: str
    psnr: float
    scores: Scores
    pictures: dict[str, bytes]


@dataclass(frozen=True)
class Gallery:
    """The worst and the best cases seen so far, by PSNR; the pictures of others are dropped on the way."""

    cases: list[Shown] = field(default_factory=list)

    def look(self, name: str, scores: Scores, produced: Produced, target: Bytes) -> None:
        """Take in a case."""
        images = {"input": produced.degraded, "output": produced.output, "target": target}
        pictures = {caption: jpeg(image) for caption, image in images.items() if image is not None}
        self.cases.append(Shown(name, scores["psnr"], scores, pictures))
        self.cases.sort(key=lambda case: case.psnr)
        if len(self.cases) > 2 * SHOWN:
            del self.cases[SHOWN]

    def ends(self) -> tuple[list[Shown], list[Shown]]:
        """Return the worst and the best, from the extreme inwards, none of them twice."""
        half = (len(self.cases) + 1) // 2
        return self.cases[: min(SHOWN, half)], self.cases[max(half, len(self.cases) - SHOWN) :][::-1]


def jpeg(image: Bytes) -> bytes:
    """Return a picture as JPEG, shrunk to what the page shows."""
    picture = Image.fromarray(image)
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def headline(report: Report) -> str:
    """Return the result in one line, under the protocol's name."""
    psnr, ssim = report.figures["psnr"], report.figures["ssim"]
    spread = "" if psnr.over_runs is None else f" +- {psnr.over_runs:.2f} over {report.settings['runs']} seeds"
    extra = "".join(f", {name.upper()} {value:.4f}" for name, value in report.sets.items())
    extra = "".join(f", {n.upper()} {report.figures[n].mean:.4f}" for n in ("lpips",) if n in report.figures) + extra
    images = f"{len(report.images)} images, {report.label}"
    return f"{report.protocol.name}: {psnr.mean:.2f} dB{spread}, SSIM {ssim.mean:.4f}{extra} ({images})"


def given_line(report: Report) -> str:
    """Return what the outputs were made from, and which of them got worse, in one line; empty where it is not known."""
    if "psnr" not in report.changes:
        return ""
    psnr, names = report.changes["psnr"], [name for name in ("ssim", "lpips") if name in report.changes]
    if not math.isfinite(psnr.given):
        return f"  input: clean photos; {kept_line(report, psnr)}"
    others = "".join(f", {name.upper()} {report.changes[name].given:.4f}" for name in names)
    worse = f"{psnr.worse} of {len(report.images)} got worse"
    return f"  input: {psnr.given:.2f} dB{others}; change {psnr.mean:+.2f} dB, at worst {worst(psnr)}; {worse}"


def worst(change: Change, name: str = "psnr") -> str:
    """Return the worst change and whose it is."""
    return f"{'' if math.isinf(change.worst) else signed(name, change.worst) + ' '}({change.worst_name})"


def signed(name: str, value: float) -> str:
    """Return a change with the digits that its figure deserves."""
    return ("" if value < 0 else "+") + figure(name, value)


def kept_line(report: Report, psnr: Change) -> str:
    """Return how near the outputs stay to inputs that had nothing amiss."""
    least = min(image.mean["psnr"] for image in report.images)
    mean = report.figures["psnr"].mean
    changed = f"{psnr.worse} of {len(report.images)} changed"
    return f"input to output {mean:.2f} dB, at worst {least:.2f} ({psnr.worst_name}); {changed}"


def change_table(report: Report) -> Table:
    """Return what became of each figure from input to output."""
    rows = [
        (
            name,
            figure(name, c.given),
            figure(name, report.figures[name].mean),
            signed(name, c.mean),
            worst(c, name),
            str(c.worse),
        )
        for name, c in report.changes.items()
    ]
    return Table(
        ("from input to output", "input", "output", "mean change", "worst change", "images that got worse"), rows
    )


def figure(name: str, value: float | None) -> str:
    """Return a figure with the digits that it deserves."""
    if value is None:
        return ""
    return f"{value:.2f}" if name.startswith(("psnr", "lab", "fid")) else f"{value:.4f}"


def figure_table(report: Report) -> Table:
    """Return the means with their intervals, one row per figure."""
    rows = [
        (name, figure(name, value.mean), between(name, value), figure(name, value.over_runs))
        for name, value in report.figures.items()
    ]
    rows += [(name, figure(name, value), "", "") for name, value in report.sets.items()]
    return Table((report.protocol.name, "mean", "95 % interval", "deviation over seeds"), rows)


def between(name: str, value: Interval) -> str:
    """Return an interval."""
    return "" if value.low is None else f"{figure(name, value.low)} to {figure(name, value.high)}"


def cost_table(report: Report) -> Table:
    """Return what is known of the cost."""
    words = {
        "parameters": ("parameters", lambda v: f"{v:,.0f}"),
        "gmacs-256": ("GMACs of one call at 256x256", lambda v: f"{v:.3f}"),
        "gmacs-per-image": ("GMACs per image, all calls, median", lambda v: f"{v:.3f}"),
        "seconds-per-image": ("seconds per image, median", lambda v: f"{v:.3f}"),
        "memory-median": ("peak memory per image, median", megabytes),
        "memory-greatest": ("peak memory, greatest", megabytes),
    }
    rows = [(words[name][0], words[name][1](value)) for name, value in report.costs.items()]
    return Table(("cost", report.label), rows)


def image_table(report: Report) -> Table:
    """Return the figures of every image, the worst first."""
    names = list(report.images[0].runs[0])
    ranked = sorted(report.images, key=lambda image: image.mean["psnr"])
    rows = [(i.name, f"{i.size[1]}x{i.size[0]}", *(figure(n, i.mean[n]) for n in names)) for i in ranked]
    return Table(("image", "target", *names), rows)


def as_json(report: Report) -> str:
    """Return everything as JSON; what is not finite, such as the PSNR of equal images, as text."""
    data = {
        "protocol": report.protocol.name,
        "compared": report.protocol.words,
        "label": report.label,
        **report.settings,
        "images": len(report.images),
        "figures": {name: value._asdict() for name, value in report.figures.items()},
        "sets": report.sets,
        "costs": report.costs,
        "changes": {name: change._asdict() for name, change in report.changes.items()},
        "by_image": {
            image.name: {"height": image.size[0], "width": image.size[1], "runs": image.runs,
                         "input": image.given, "costs": [cost._asdict() for cost in image.costs]}
            for image in report.images
        },
    }  # fmt: skip
    return json.dumps(finite(data), indent=2, allow_nan=False) + "\n"


def short_json(report: Report) -> str:
    """Return the figures of every image and, under "mean", their means."""
    means = {name: value.mean for name, value in report.figures.items()} | report.sets
    return json.dumps(finite({**{i.name: i.mean for i in report.images}, "mean": means}), indent=2) + "\n"


def finite(data: object) -> object:
    """Return data with numbers that JSON has no word for as text."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [finite(value) for value in data]
    return str(data) if isinstance(data, float) and not math.isfinite(data) else data


def plot(report: Report) -> bytes | None:
    """Return the PSNR of every image, sorted, with the mean and its interval, as PNG; None without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    values = np.sort([image.mean["psnr"] for image in report.images])
    mean = report.figures["psnr"]
    drawing = Figure(figsize=(8, 4), layout="constrained")
    axes = drawing.subplots()
    axes.plot(np.arange(1, len(values) + 1), values, "o-", color="#1f5f8b", markersize=4)
    if mean.low is not None and mean.high is not None:
        axes.axhspan(mean.low, mean.high, color="#1f5f8b", alpha=0.15, label="95 % interval of the mean")
    if math.isfinite(mean.mean):
        axes.axhline(mean.mean, color="#c0392b", linewidth=1, label=f"mean {mean.mean:.2f} dB")
        axes.legend(frameon=False)
    axes.set(xlabel="images, worst first", ylabel="PSNR in dB", title=f"{report.protocol.name}, {report.label}")
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def page(report: Report, gallery: Gallery, drawing: bytes | None) -> str:
    """Return one HTML page that needs nothing beside it."""
    title = html.escape(headline(report))
    worst, best = ("".join(map(case_html, cases)) for cases in gallery.ends())
    picture = f'<img alt="PSNR of every image" src="{data_uri(drawing, "png")}">' if drawing else ""
    costs = html_table(change_table(report)) if report.changes else ""
    costs += html_table(cost_table(report)) if report.costs else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'<meta name="viewport" content="width=device-width"><h1>{title}</h1>'
        f"<p>{html.escape(report.protocol.words)}</p>{html_table(figure_table(report))}{costs}{picture}"
        f'<div class="pair"><section><h2>Worst</h2>{worst}</section><section><h2>Best</h2>{best}</section></div>'
        f"<h2>Every image</h2>{html_table(image_table(report))}</html>\n"
    )


def case_html(case: Shown) -> str:
    """Return a case: its pictures in a row under its figures."""
    scores = ", ".join(f"{name} {figure(name, value)}" for name, value in case.scores.items())
    pictures = "".join(
        f'<figure><img alt="{caption}" src="{data_uri(data, "jpeg")}"><figcaption>{caption}</figcaption></figure>'
        for caption, data in case.pictures.items()
    )
    return f'<h3>{html.escape(case.name)}</h3><p>{scores}</p><div class="case">{pictures}</div>'


def html_table(table: Table) -> str:
    """Return a table as HTML."""
    head, *rows = ([html.escape(cell) for cell in row] for row in (table.columns, *table.rows))
    body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
    return f"<table><tr><th>{'</th><th>'.join(head)}</th></tr>{body}</table>"


def data_uri(data: bytes, kind: str) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def write_results(report: Report, gallery: Gallery, folder: Path) -> list[str]:
    """Write scores.json, table.md, index.html and scores.png, whole or not at all, and return their names.

    Raises:
        UserError: if the folder cannot be written to.
    """
    make_folder(folder)
    drawing = plot(report)
    told = [(change_table, report.changes), (cost_table, report.costs)]
    tables = [figure_table(report), *(table(report) for table, found in told if found), image_table(report)]
    text = (
        "\n".join(filter(None, (headline(report), given_line(report))))
        + "\n\n"
        + "\n\n".join(map(markdown, tables))
        + "\n"
    )
    contents = {"scores.json": as_json(report), "table.md": text, "index.html": page(report, gallery, drawing)}
    for name, content in contents.items():
        write_file(folder / name, content.encode())
    if drawing is None:
        (folder / "scores.png").unlink(missing_ok=True)  # of an earlier evaluation
        return list(contents)
    write_file(folder / "scores.png", drawing)
    return [*contents, "scores.png"]


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; UserError if that fails."""
    try:
        write_aside(path, lambda part: part.write_bytes(content))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}), expected a place to write to") from None
