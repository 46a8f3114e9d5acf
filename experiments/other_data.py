"""Other data than photographs: ``python experiments/other_data.py --task all --out runs/other-data``.

An ECG (one dimension), four bands of a satellite beside a panchromatic image (16 bits) and a video (three dimensions),
all synthetic (``rddm.synthetic``), restored by SM-Res and by what was done before networks (``classical.py``). Trains
each network in some minutes on one thread; prints a table per task; writes ``other_data.json``, a picture per task and
all of them as ``other-data.jpg``. ``docs/other-data.md`` tells the rest.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from other_tasks import TASKS, Net, Outputs, Restore, Scores, Task

from rddm.evaluate import interval
from rddm.journal import Journal
from rddm.loss import Batch
from rddm.model import read_model
from rddm.plan import accelerator_of
from rddm.report import Table, show
from rddm.synthetic import Drawn
from rddm.trainer import Run, train
from rddm.validate import batches

HELD, TESTED = 32, 256  # samples that choose, samples that are reported; training sees neither
SHOWN = 3  # the first
COSTS = {"parameters": ",", "updates": ",", "seconds": ".0f"}


class Way(NamedTuple):
    """A way to restore a batch, and what it cost."""

    restore: Restore
    cost: Mapping[str, float]


def smaller(net: Net) -> Net:
    """Return a network that trains in a second."""
    recipe = net.recipe
    network = replace(recipe.network, widths=(8, 16), blocks=(1, 1))
    phases = (replace(recipe.phases[0], batch=2),)
    return replace(net, recipe=replace(recipe, network=network, steps=2, phases=phases))


def trained(net: Net, out: Path) -> Way:
    """Train a network in a folder."""
    recipe, began = net.recipe, time.process_time()
    run, journal = Run(recipe, accelerator_of(recipe)), Journal(out, recipe.steps, 0, True)
    held = Drawn(net.make, recipe, HELD, stream=1)
    train(run, Drawn(net.make, recipe, HELD), held, out, journal, {"task": recipe.name, "data": "rddm.synthetic"})
    journal.close()
    model = read_model(out / "model").net
    cost = {"parameters": sum(w.numel() for w in model.parameters()), "updates": recipe.steps}
    return Way(lambda batch: net.restore(model, recipe, batch), cost | {"seconds": time.process_time() - began})


def scored(task: Task, restore: Restore, samples: list[Batch]) -> Scores:
    """Return the scores of every sample."""
    found = [task.scores(restore(batch), batch.x_0) for batch in samples]
    return {name: torch.cat([scores[name] for scores in found]) for name in found[0]}


def best(task: Task, rules: list[Restore], samples: list[Batch]) -> Way:
    """Return the rule with the largest mean of the first score."""
    means = [float(next(iter(scored(task, rule, samples).values())).mean()) for rule in rules]
    return Way(rules[means.index(max(means))], {})


def compared(task: Task, tested: int, out: Path) -> tuple[dict[str, Any], Outputs]:
    """Return scores, with 95 % intervals, and costs of every way to restore, and what each makes of a few samples."""
    held, test = (
        list(batches(Drawn(task.make, task.nets["SM-Res"].recipe, count, stream), count, torch.device("cpu")))
        for count, stream in ((HELD, 1), (tested, 2))
    )
    ways = {"input": Way(lambda batch: batch.x_in, {})}
    ways |= {name: best(task, rules, held) for name, rules in task.before.items()}
    ways |= {name: trained(net, out / net.recipe.name) for name, net in task.nets.items()}
    rows: dict[str, Any] = {}
    for name, way in ways.items():
        found = scored(task, way.restore, test)
        rows[name] = {score: interval(values[:, None].numpy())[:3] for score, values in found.items()} | dict(way.cost)
    shown = {name: way.restore(test[0])[:SHOWN].clone() for name, way in ways.items()}
    return rows, shown | {"target": test[0].x_0[:SHOWN].clone()}


def tabled(task: str, rows: Mapping[str, Any]) -> Table:
    """Return a task's figures as text."""
    scores = [*rows["input"]]
    text = [
        [name, *("{:.2f} ({:.2f} to {:.2f})".format(*row[score]) for score in scores)]
        + [format(row[key], form) if key in row else "" for key, form in COSTS.items()]
        for name, row in rows.items()
    ]
    return Table((task, *scores, *COSTS), text)


def draw(tasks: list[str], out: Path, file: Path) -> None:
    """Draw what was made of a few samples, of those of the tasks that were run."""
    from matplotlib.figure import Figure

    shown = {task: torch.load(out / f"{task}.pt") for task in tasks if (out / f"{task}.pt").exists()}
    figure = Figure(figsize=(9, 3.4 * len(shown)), layout="constrained")
    for part, (task, outputs) in zip(figure.subfigures(len(shown), squeeze=False)[:, 0], shown.items(), strict=True):
        TASKS[task].draw(part, outputs)
    figure.savefig(file, dpi=90)


def run(name: str, smoke: bool, out: Path) -> None:
    """Run a task; keep its figures beside those of the others, what it made, and a picture."""
    task, tested, file = TASKS[name], TESTED, out / "other_data.json"
    if smoke:
        task, tested = replace(task, nets={key: smaller(net) for key, net in task.nets.items()}), 8
    rows, shown = compared(task, tested, out)
    show(tabled(name, rows))
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | {name: rows}, indent=1) + "\n", encoding="utf-8")
    torch.save(shown, out / f"{name}.pt")
    draw([name], out, out / f"{name}.png")
    draw([*TASKS], out, out / "other-data.jpg")


def main() -> None:
    """Run one task, or each in a process of its own: accelerate keeps one precision for the life of a process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=(*TASKS, "all"), default="all")
    parser.add_argument("--out", type=Path, default=Path("runs/other-data"))
    parser.add_argument("--smoke", action="store_true", help="tiny networks that learn nothing, few samples")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.task != "all":
        return run(options.task, options.smoke, options.out)
    for name in TASKS:
        line = [sys.executable, __file__, "--task", name, "--out", str(options.out), *["--smoke"] * options.smoke]
        if subprocess.run(line).returncode:
            sys.exit(1)  # the process said why


if __name__ == "__main__":
    main()
