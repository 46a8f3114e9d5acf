"""PSNR and LPIPS along the realism dial: ``python experiments/realism.py --data ../shared/data --model denoise``.

A model with a second stage restores a test set at realism 0 to 1, the second stage in few steps and in more.
``denoise`` is measured on CBSD68 with noise(50), ``low-light`` on LOL's test pairs, ``upscale`` on Set14 four times
enlarged; other models take ``--like`` one of them. ``--companion`` names the second stage of a model that names none.
Writes ``realism-NAME.json`` and ``realism-NAME.png``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from rddm.evaluate import Evaluation, evaluate
from rddm.learned import extra_metrics, has_lpips
from rddm.methods import METHODS
from rddm.model import Model, companion_of, load
from rddm.nn.compact import CompactConfig
from rddm.protocols import PROTOCOLS, Case, read_pairs
from rddm.report import Table, show
from rddm.sources import Degrade, Restorer, made_degraded, read_degraded
from rddm.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[1]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
Figures = dict[str, float]


class Test(NamedTuple):
    """What a model is measured on: a protocol, images, and what degrades them."""

    protocol: str
    cases: list[Case]
    degrade: Degrade


def test_for(name: str, data: Path) -> Test:
    """Return the test set of a model.

    Raises:
        ValueError: if there is none for it.
    """
    if name == "low-light":
        folder = data / "lol" / "test"
        return Test("lol-rgb", read_pairs(folder / "target", folder / "input"), read_degraded)
    if name == "upscale":
        return Test("sr4-y", read_pairs(data / "set14", None), made_degraded("downscale(4)", 0))
    if name != "denoise":
        raise ValueError(f"--model {name}: no test set, expected --like denoise, low-light or upscale")
    names = (data / "bsds500" / "cbsd68.txt").read_text(encoding="utf-8").split()
    files = [next((data / "bsds500").glob(f"*/{name}.jpg")) for name in sorted(names)]
    return Test("denoise-rgb", [Case(file.stem, file) for file in files], made_degraded("noise(50)", 0))


def miniature() -> Test:
    """Return the repository's own dark photos."""
    folder = ROOT / "samples" / "low-light"
    return Test("lol-rgb", read_pairs(folder / "target", folder / "input")[:1], read_degraded)


def stand_in() -> Model:
    """Return a second stage with random weights, small, to try the program with."""
    torch.manual_seed(0)
    method = replace(METHODS["pmrf"], steps=2)
    return Model(ModelSpec("stand-in", CompactConfig(in_channels=3, widths=(8, 16), blocks=(1, 1)), method)).eval()


def in_steps(model: Model, steps: int) -> None:
    """Set the number of network calls of a model's second stage."""
    second = companion_of(model)
    second.spec = replace(second.spec, method=replace(second.spec.method, steps=steps))


def measured(model: Model, test: Test, share: float) -> Figures:
    """Return the means over a test set at one position of the dial."""
    protocol = PROTOCOLS[test.protocol]
    source = Restorer(model, model.spec.name, protocol, test.degrade, realism=share)
    extras = extra_metrics(["lpips"] if has_lpips() else [])
    report = evaluate(Evaluation(source, protocol, extras), test.cases)
    return {name: round(value.mean, 4) for name, value in report.figures.items()}


def dialled(model: Model, test: Test, steps: Sequence[int], shares: Sequence[float]) -> dict[str, dict[str, Figures]]:
    """Return the figures by the second stage's steps and the dial; position 0, the first stage alone, once."""
    first, results = measured(model, test, 0.0), {}
    for count in steps:
        in_steps(model, count)
        others = {f"{share:g}": measured(model, test, share) for share in shares if share}
        results[str(count)] = {"0": first, **others}
        print(f"{count} steps: {results[str(count)]}", flush=True)
    return results


def plot(results: dict[str, dict[str, Figures]], file: Path) -> None:
    """Draw each figure against the dial, a line for each number of steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in ("psnr", "lpips") if name in next(iter(results.values()))["0"]]
    figure, axes = pyplot.subplots(1, len(names), figsize=(4.8 * len(names), 4), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for steps, row in results.items():
            axis.plot([float(share) for share in row], [found[name] for found in row.values()], "o-", label=steps)
        axis.set(xlabel="realism", ylabel="PSNR, dB" if name == "psnr" else "LPIPS (lower is nearer)")
    axes[0, 0].legend(title="steps", frameon=False)
    figure.savefig(file, dpi=90)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="denoise", help="bundled name or folder")
    parser.add_argument("--companion", help="its second stage, if it names none")
    parser.add_argument("--like", help="the model whose test set is taken; --model if not given")
    parser.add_argument("--steps", default="2,5,10", help="of the second stage")
    parser.add_argument("--photos", type=int, default=12, help="of the test set, evenly spread; 0 for all")
    parser.add_argument("--out", type=Path, default=Path("runs/realism"))
    parser.add_argument("--smoke", action="store_true", help="the repository's own samples, a stand-in, one step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, steps = load("low-light" if options.smoke else options.model), [int(n) for n in options.steps.split(",")]
    if options.smoke:
        model.companions, model.spec = [stand_in()], replace(model.spec, realism="stand-in")
    elif options.companion:
        model.spec = replace(model.spec, realism=str(Path(options.companion).resolve()))
    test = miniature() if options.smoke else test_for(options.like or options.model, options.data)
    if options.photos:
        test = test._replace(cases=test.cases[:: max(1, len(test.cases) // options.photos)][: options.photos])
    results = dialled(model, test, [1] if options.smoke else steps, SHARES[::4] if options.smoke else SHARES)
    names = list(next(iter(results.values()))["0"])
    rows = [[n, r, *(f"{found[k]:.4f}" for k in names)] for n, row in results.items() for r, found in row.items()]
    show(Table(("steps", "realism", *names), rows))
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"realism-{model.spec.name}.json"
    found = {"model": model.spec.name, "protocol": test.protocol, "images": len(test.cases), "by_steps": results}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(results, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
