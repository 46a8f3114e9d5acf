"""The goals for people: a table, and docs/goals.md."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from goals_measure import MEASURES, Place, Row, arguments_of, fingerprint
from goals_table import GOALS, SECTIONS, TEST_SETS, Aim, Goal

from rddm.model import BUNDLED, bundled
from rddm.report import Table, markdown

BEHIND = 0.5  # dB that a model for everything may be behind a specialist


def texts(aims: Sequence[Aim], values: Callable[[Aim], float | None]) -> str:
    """Return the values of a row's aims in one cell."""
    return ", ".join(filter(None, (MEASURES[aim.measure].text(values(aim)) for aim in aims)))


def now(goal: Goal, row: Row) -> str:
    """Return the figures of a row in one cell; beside a gain the PSNR, and a star if the bundled weights are others."""
    text = texts(goal.aims, lambda aim: float(row["now"][aim.measure]))
    text += f" ({row['output']['psnr']:.2f} dB)" if goal.aims[0].measure == "gain" else ""
    return text if row["weights"] == fingerprint(goal.model) else f"{text} \\*"


def reached(goal: Goal, row: Row, rows: Mapping[str, Row]) -> str:
    """Return whether all goals of a row are reached; empty where none was set, or the specialist is not measured."""
    met = []
    for aim in goal.aims:
        if aim.goal is not None:
            value, lower = float(row["now"][aim.measure]), MEASURES[aim.measure].lower
            met.append(value <= aim.goal if lower else value >= aim.goal)
    if goal.beside in rows:
        met.append(row["output"]["psnr"] >= rows[goal.beside]["output"]["psnr"] - BEHIND)
    unknown = not met or (goal.beside and goal.beside not in rows and all(met))
    return "" if unknown else "yes" if all(met) else "no"


def given(row: Row) -> str:
    """Return the input's figures in one cell, or what real images have, and how many images got worse."""
    found = row["input"]
    if "floor" in row:
        untouched = f", untouched {found['frechet-wavelet']:.1f}" if found else ""
        return f"real ones {row['floor']:.1f}{untouched}"
    if found.get("psnr") == "inf":
        return "clean"
    others = [f"{name.upper()} {found[name]:.3f}" for name in ("lpips",) if name in found]
    worse = f"{row['worse']} of {row['images']} worse" if row["worse"] else ""
    return ", ".join(filter(None, (f"{found['psnr']:.2f}" if found else "", *others, worse)))


def best(goal: Goal, rows: Mapping[str, Row]) -> str:
    """Return what others reach, or a specialist of ours, in one cell."""
    if not goal.beside:
        return goal.best
    specialist = rows.get(goal.beside, {}).get("output")
    model = GOALS[goal.beside].model
    return f"`{model}`" if specialist is None else f"`{model}` {specialist['psnr']:.2f} dB"


def table(goals: Sequence[Goal], rows: Mapping[str, Row]) -> Table:
    """Return goals as a table; a row that was never measured has no figure under "now"."""
    columns = ("model", "protocol", "on", "set", "input", "when set", "now", "goal", "reached", "others", "images")
    lines = []
    for goal in goals:
        row = rows.get(goal.name)
        pairs = "sets" if goal.images is not None else "pairs"
        degraded = " ".join((goal.degrade or pairs, *goal.options))
        lines.append((
            goal.model, goal.protocol, degraded, goal.test, "" if row is None else given(row),
            texts(goal.aims, lambda aim: aim.today), "not measured" if row is None else now(goal, row),
            texts(goal.aims, lambda aim: aim.goal), "" if row is None else reached(goal, row, rows), best(goal, rows),
            "" if row is None else str(row["images"]),
        ))  # fmt: skip
    return Table(columns, lines)


def page(rows: Mapping[str, Row]) -> str:
    """Return docs/goals.md."""
    place = Place(Path("DATA"), Path("MORE"))
    parts = [
        "# Goals",
        "What each model is to reach, what it reaches now, and what others reach. Made by",
        "```\npython training/goals.py --data DATA --more MORE\n```",
        "which runs one `rddm evaluate` for each row ([protocols](protocols.md) tells what each computes). Under "
        "*now* and *when set*, figures without a word are PSNR in dB, with a sign the gain over the input; *others* "
        "have it published ([published figures](published.md)) or were run here. *When set* is what our model had "
        "when the goal was set, in places on other photographs. *Input* also says how many photos got worse than "
        "they were given. A star: measured on other weights than those that are bundled now.",
    ]  # fmt: skip
    for section in SECTIONS:
        command = "rddm " + shlex.join(arguments_of(section.goals[0], place, write=False))
        parts += [f"## {section.title}", section.words, f"```\n{command}\n```", markdown(table(section.goals, rows))]
    parts += ["## What it cost", markdown(costs()), "## Where the sets come from", markdown(sources())]
    return "\n\n".join(parts) + "\n"


def costs() -> Table:
    """Return what the training of each bundled model cost, from its card."""
    cards = {
        name: json.loads((BUNDLED / name / "config.json").read_text(encoding="utf-8"))["card"] for name in bundled()
    }
    lines = [(name, card["data"], card["cost"]) for name, card in cards.items()]
    return Table(("model", "data", "trained in"), lines)


def sources() -> Table:
    """Return the test sets."""
    lines = [
        (name, test.words, ", ".join(f"{'MORE' if test.more else 'DATA'}/{part}" for part in test.clean), test.where)
        for name, test in TEST_SETS.items()
    ]
    return Table(("set", "what", "targets in", "from"), lines)
