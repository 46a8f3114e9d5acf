"""Tables for people: the methods and the bundled models, on a terminal or as Markdown."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from rddm.methods import METHODS, Method
from rddm.model import BUNDLED, CONFIG, bundled, shipped
from rddm.spec import PATHS, ModelSpec, method_to_json, read_spec


class Table(NamedTuple):
    """A heading and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def scaled(factor: float, text: str) -> str:
    """Return a term with its factor."""
    return "0" if factor == 0 else text if factor == 1 else f"{factor:g} {text}"


VP = "1 - sqrt(acp), sqrt(1 - acp)"
WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "linear": lambda p: f"t, {scaled(p['noise'], 't')}",
    "power": lambda p: f"P {p['alpha']} alpha, {p['beta2']} beta^2",
    "ddpm": lambda p: f"{VP}, {p['betas']}",
    "noise-level": lambda p: f"{VP}, continuous in {p['level']}",
    "score-vp": lambda p: f"{VP}, continuous",
    "score-subvp": lambda p: "1 - sqrt(acp), 1 - acp, continuous",
    "score-ve": lambda p: "0, sigma, geometric in t",
    "edm": lambda p: "0, sigma",
    "resshift": lambda p: f"eta, {scaled(p['kappa'], 'sqrt(eta)')}",
    "resfusion": lambda p: "(1 - q) / q, sqrt(1 - acp) / q, q = sqrt(acp)",
    "diffuir": lambda p: "1 - q / s, sqrt(1 - acp) / s, s = 1 - dbar",
    "ir-sde": lambda p: f"1 - e^-h, l sqrt(1 - e^-2h), l = {p['max_sigma']:g}/255",
    "goub": lambda p: f"the same made to end at x_in, l = {p['max_sigma']:g}/255",
    "i2sb": lambda p: "s / (s + s'), " + scaled(p["noise"], "sqrt(s s' / (s + s'))"),
    "bbdm": lambda p: f"m, sqrt(2 m (1 - m)), {p['shape']}",
    "ddbm-vp": lambda p: "a bridge of VP, over the coefficients' sum",
    "ddbm-ve": lambda p: f"(s / T)^2, s sqrt(1 - (s / T)^2), T = {p['end']:g}",
    "brownian": lambda p: f"t, {scaled(p['noise'], 'sqrt(t)')}",
}
PRINTED = {
    "power", "ddpm", "resshift", "resfusion", "diffuir", "ir-sde", "goub", "i2sb", "bbdm", "ddbm-vp", "ddbm-ve",
}  # fmt: skip


def path_words(method: Method) -> str:
    """Return a row's path in a few words; its class's name if the table has none."""
    path = method_to_json(method)["path"] if type(method.path) in PATHS.values() else {}
    return WORDS[path["family"]](path) if path.get("family") in WORDS else type(method.path).__name__


def checked(method: Method) -> str:
    """Return what a row's path is compared with in the tests: values that are printed somewhere, or its formula."""
    return "printed" if any(type(method.path) is PATHS[family] for family in PRINTED) else "formula"


def trained() -> dict[str, list[str]]:
    """Return the bundled models by the row of the table that they were trained with."""
    models: dict[str, list[str]] = {}
    for name in shipped():
        config = json.loads((BUNDLED / name / CONFIG).read_text(encoding="utf-8"))
        models.setdefault(config["method"]["name"], []).append(name)
    return models


def sees(method: Method) -> str:
    """Return what a row's network sees."""
    return " + ".join(("x_t", *method.inputs))


def method_table() -> Table:
    """Return the table of methods, one row each."""
    columns = ("method", "abar(t), bbar(t)", "x_in", "outputs", "sees", "gain", "steps", "checked", "models")
    models = trained()
    rows = [
        (
            name, path_words(row), row.origin, row.target.name, sees(row), row.gain.name, str(row.steps), checked(row),
            str(len(models.get(name, ())) or ""), row.reference,
        )
        for name, row in METHODS.items()
    ]  # fmt: skip
    return Table((*columns, "reference"), rows)


def methods_json() -> list[dict[str, Any]]:
    """Return the rows in full, as they are saved beside weights, each with what it was checked by and trained to."""
    models = trained()
    return [
        {**method_to_json(row), "checked": checked(row), "models": models.get(name, [])}
        for name, row in METHODS.items()
    ]


def model_table() -> Table:
    """Return the bundled models with data, cost and scores by protocol."""
    columns = ("model", "task", "data", "parameters", "GMACs at 256x256", "trained in", "steps", "scores")
    rows = []
    for name in shipped():
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
