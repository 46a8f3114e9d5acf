"""Tables for people: the methods and the bundled models, on a terminal or as Markdown."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from rddm.methods import METHODS, Method
from rddm.model import BUNDLED, CONFIG, bundled
from rddm.spec import ModelSpec, method_to_json, read_spec


class Table(NamedTuple):
    """A heading and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def path_words(method: Method) -> str:
    """Return a row's path in a few words."""
    path = method_to_json(method)["path"]
    if path["family"] == "linear":
        return "t, " + ("0" if path["noise"] == 0 else "t" if path["noise"] == 1 else f"{path['noise']:g} t")
    if path["family"] == "power":
        return f"P {path['alpha']} alpha, {path['beta2']} beta^2"
    if path["family"] == "ddpm":
        return f"1 - sqrt(acp), sqrt(1 - acp), {path['betas']}"
    return f"eta, {path['kappa']:g} sqrt(eta)"


def method_table() -> Table:
    """Return the table of methods, one row each."""
    columns = ("method", "abar(t), bbar(t)", "x_in", "network outputs", "sees", "gain", "steps", "reference")
    rows = [
        (
            name,
            path_words(row),
            row.origin,
            row.target.name,
            " + ".join(("x_t", *row.inputs)),
            row.gain.name,
            str(row.steps),
            row.reference,
        )
        for name, row in METHODS.items()
    ]
    return Table(columns, rows)


def model_table() -> Table:
    """Return the bundled models with data, cost and scores by protocol."""
    columns = ("model", "task", "data", "parameters", "GMACs at 256x256", "trained in", "steps", "scores")
    rows = []
    for name in bundled():
        config = json.loads((BUNDLED / name / CONFIG).read_text(encoding="utf-8"))
        card = config["card"]
        scores = ", ".join(map(scored, card["scores"], card["scores"].values()))
        cost = f"{card['parameters'] / 1e6:.2f} M", f"{card['gmacs_256']:.2f}", card["cost"]
        rows.append((name, card["task"], card["data"], *cost, str(config["method"]["steps"]), scores))
    return Table(columns, rows)


def fit_for(use: Callable[[ModelSpec], bool]) -> str:
    """Return the names of the bundled models that are fit for a use, as a complaint lists them."""
    names = [name for name in bundled() if use(read_spec(BUNDLED / name / CONFIG))]
    return ", ".join(names) or f"a folder with {CONFIG} (none is bundled)"


def scored(test: str, score: dict[str, float]) -> str:
    """Return a test's figure, of what the model was given and of what it made: PSNR, or a distance and its floor."""
    key, unit = ("psnr", " dB") if "psnr" in score else ("value", f" (real ones {score['floor']:.2g})")
    given = f"{score['input']:.2f} to " if "input" in score else ""
    return f"{test} {given}{score[key]:.2f}{unit}"


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(table: Table) -> None:
    """Print a table, wide enough to be read by programs when the output is not a terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=240)
    rich = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        rich.add_column(column, overflow="fold")
    for row in table.rows:
        rich.add_row(*row)
    console.print(rich)
