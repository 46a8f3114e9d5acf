"""What distances of sets see, and from which amount on: ``python experiments/set_distance.py --data ../shared/data``.

Real cats against real cats that were harmed: eleven ways, five amounts, in three spaces of features. The criterion,
fixed beforehand: both distances rise from each amount to the next wherever either is above the floor. Then the floors
by number of images, and whether intervals are as wide as the spread of distances over sets that share no image. Writes
``set-distance.json`` and ``set-distance.png`` to ``--out`` and prints tables.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "jobs"))

import sets

from rddm import load
from rddm.degradations import parse
from rddm.model import Model
from rddm.report import Table, show
from rddm.setdistance import WAVELET, Figure, Reference, Space

SHARES, SOURCES = (0.05, 0.1, 0.25, 0.5, 1), ("cats", "dogs")
AMOUNTS = {
    "blur, sigma in pixels": (0.3, 0.5, 0.7, 1, 1.5),
    "noise, sigma of 255": (2.5, 5, 10, 20, 40),
    "JPEG, quality": (90, 75, 50, 25, 10),
    "more red, of 255": (2, 5, 10, 20, 40),
    "warped, by 64ths": (0.5, 1, 1.5, 2, 3),
    "quadrants shuffled, share": SHARES,
    "upside down, share": SHARES,
    "dogs, share": SHARES,
    "Gaussian images, share": SHARES,
    "different images of 1000": (300, 200, 100, 50, 20),
    "blend with another, share": (0.05, 0.1, 0.2, 0.3, 0.5),
}
Rows = dict[str, list[dict[str, Figure]]]
Harm = Callable[[Tensor, float], Tensor]


def seeded(seed: int) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def degraded(x: Tensor, text: str) -> Tensor:
    """Return images degraded one by one, as ``rddm.degradations`` writes it."""
    degrade, generator = parse(text), seeded(1)
    return torch.stack([degrade((image + 1) / 2, generator).image for image in x]) * 2 - 1


def warped(x: Tensor, amount: float) -> Tensor:
    """Return images displaced by smooth fields, one each, whose standard deviation is so many 64ths of the side."""
    coarse = torch.randn(len(x), 2, 5, 5, generator=seeded(2))
    field = F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=True)
    place = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)
    place = place + (field / field.std() * amount / 32).permute(0, 2, 3, 1)
    return F.grid_sample(x, place, "bicubic", "reflection", align_corners=False).clamp(-1, 1)


def shuffled(x: Tensor) -> Tensor:
    """Return images of which no quadrant, or only some, stay where they were."""
    tiles = torch.stack([half for row in x.chunk(2, 2) for half in row.chunk(2, 3)], dim=1)
    orders = torch.stack([1 + torch.randperm(3, generator=seeded(i)) for i in range(len(x))])
    orders = torch.cat([orders, torch.zeros(len(x), 1, dtype=torch.long)], dim=1)  # the first quadrant comes last
    moved = tiles[torch.arange(len(x))[:, None], orders]
    return torch.cat([torch.cat([moved[:, 0], moved[:, 1]], 3), torch.cat([moved[:, 2], moved[:, 3]], 3)], 2)


def some(x: Tensor, others: Tensor, share: float) -> Tensor:
    """Return images of which a share is replaced."""
    chosen = torch.rand(len(x), generator=seeded(3)).argsort() < round(share * len(x))
    return torch.where(chosen[:, None, None, None], others[: len(x)], x)


def gaussian(real: Tensor, count: int) -> Tensor:
    """Return images drawn from the Gaussian with the mean and the full covariance of real ones, clamped."""
    mean = real.mean(0)
    mixed = torch.randn(count, len(real), generator=seeded(4)) @ (real - mean).flatten(1)
    return (mean + mixed.view(count, *mean.shape) / (len(real) - 1) ** 0.5).clamp(-1, 1)


def harms(dogs: Tensor, gaussians: Tensor) -> dict[str, Harm]:
    """Return what is done to images, by the keys of ``AMOUNTS``."""
    red = torch.tensor([1.0, 0, 0]).view(3, 1, 1) / 127.5
    done = (
        lambda x, a: degraded(x, f"blur({a})"),
        lambda x, a: degraded(x, f"noise({a})"),
        lambda x, a: degraded(x, f"jpeg({a})"),
        lambda x, a: (x + a * red).clamp(-1, 1),
        warped,
        lambda x, a: some(x, shuffled(x), a),
        lambda x, a: some(x, x.flip(2), a),
        lambda x, a: some(x, dogs, a),
        lambda x, a: some(x, gaussians, a),
        lambda x, a: x[torch.arange(len(x)) % max(int(a * len(x)) // 1000, 2)],
        lambda x, a: (1 - a) * x + a * x.roll(1, 0),
    )
    return dict(zip(AMOUNTS, done, strict=True))


def pooled(layers: list[Tensor]) -> Tensor:
    """Return the mean in quadrants and the deviation of each channel of each layer."""
    parts = [part for y in layers for part in (F.adaptive_avg_pool2d(y, 2).flatten(1), y.std((2, 3), correction=0))]
    return torch.cat(parts, dim=1)


def activations(model: Model, images: Tensor) -> Tensor:
    """Return what the stages of a restoration network make of images, its clock at a tenth."""
    layers: list[Tensor] = []
    stages = [*model.net.encoder, *model.net.decoder]  # pyright: ignore
    hooks = [stage.register_forward_hook(lambda *call: layers.append(call[-1])) for stage in stages]
    with torch.no_grad():
        model.denoiser({})(images, images, model.spec.method.path.node(0.1))
    for hook in hooks:
        hook.remove()
    return pooled(layers)


def random_network() -> Callable[[Tensor], Tensor]:
    """Return three fixed random convolutions, each with ReLU and halved."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(a, b, 3, padding=1, padding_mode="reflect") for a, b in ((3, 32), (32, 64), (64, 128))]

    def features(images: Tensor) -> Tensor:
        layers = []
        with torch.no_grad():
            for convolution in convolutions:
                layers.append(F.relu(convolution(images if not layers else F.avg_pool2d(layers[-1], 2))))
        return pooled(layers)

    return features


def projected(name: str, features: Callable[[Tensor], Tensor], real: Tensor, size: int = 128) -> Space:
    """Return a space reduced to the directions in which real images differ most, each feature with deviation 1."""
    raw = Space(name, lambda images: torch.cat([features(part) for part in images.split(128)]))
    known = raw.features(real)
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    axes = torch.linalg.svd((known - mean) / deviation, full_matrices=False).Vh[:size].T
    return Space(name, lambda images: (raw.features(images) - mean) / deviation @ axes)


def battery(reference: Reference, test: Tensor, done: dict[str, Harm], amounts: int) -> Rows:
    """Return the distances of harmed images, by harm: none, then the amounts."""
    clean, rows = reference.compare(test), Rows()
    for name, harm in done.items():
        rows[name] = [clean, *(reference.compare(harm(test, amount)) for amount in AMOUNTS[name][-amounts:])]
        ratios = (" ".join(f"{row[key].value / row[key].floor:8.2f}" for row in rows[name]) for key in clean)
        print(f"{reference.space.name:9} {name:26}", " |".join(ratios), flush=True)
    return rows


def rises(row: list[dict[str, Figure]], name: str) -> bool:
    """Return whether a distance rises from each amount to the next, wherever either is above the floor."""
    figures = [found[name] for found in row]
    return all(b.value > a.value for a, b in zip(figures, figures[1:]) if max(a.value, b.value) > a.floor)


def judged(rows: Rows) -> Iterator[tuple[str, str, str, str]]:
    """Yield each distance: its name, the harms it does not follow, how many amounts are seen, of how many."""
    for name in next(iter(rows.values()))[0]:
        missed = [harm for harm, row in rows.items() if not rises(row, name)]
        seen = [found[name].value > found[name].floor for row in rows.values() for found in row[1:]]
        yield name, "; ".join(missed) or "none", str(sum(seen)), str(len(seen))


def spread(reference: Reference, images: Tensor, count: int) -> dict[str, tuple[float, float]]:
    """Return the standard deviation of distances over sets that share no image, and what the intervals say it is."""
    found = [reference.compare(part) for part in images.split(count) if len(part) == count]
    of = {name: [figures[name] for figures in found] for name in found[0]}
    return {
        name: (float(torch.tensor([f.value for f in row]).std()), sum(f.high - f.value for f in row) / len(row) / 2.09)
        for name, row in of.items()
    }


def loaded(data: Path, side: int) -> list[Tensor]:
    """Return AFHQ's cats, shuffled, and photographs of cats and of dogs."""
    files = ["afhq_cat/afhq_cat_64_q95.npz", *(f"cats_dogs/{kind}_photos_64_q95.npz" for kind in SOURCES)]
    stacks = [sets.Packed(data / file, None if side == 64 else side).images for file in files]
    cats, *others = (torch.from_numpy(stack).permute(0, 3, 1, 2) / 127.5 - 1 for stack in stacks)
    return [cats[torch.randperm(len(cats), generator=seeded(0))], *others]


def drawn(side: int = 16) -> list[Tensor]:
    """Return three sets of smooth random images."""
    coarse = torch.rand(3, 120, 3, 4, 4, generator=seeded(0))
    return [2 * F.interpolate(part, size=(side, side), mode="bilinear") - 1 for part in coarse]


def spaces(real: Tensor) -> list[Space]:
    """Return the spaces that are compared."""
    model = load("denoise")
    others = {"random": random_network(), "denoiser": lambda images: activations(model, images)}
    return [WAVELET, *(projected(name, features, real) for name, features in others.items())]


def measured(space: Space, images: list[Tensor], count: int, amounts: int) -> tuple[Rows, dict[str, object]]:
    """Return the battery of a space, and that with what else is measured."""
    cats, other_cats, dogs = images
    reference, test = Reference(cats[count:], space), cats[:count]
    rows = battery(reference, test, harms(dogs, gaussian(cats[count:], count)), amounts)
    rest, half = cats[len(cats) // 2 :], cats[: len(cats) // 2]
    other = Reference(rest, space)
    return rows, {
        "harms": rows,
        "dogs against cats of one source": Reference(other_cats, space).compare(dogs[:count]),
        "dogs by number": {size: reference.compare(dogs[:size]) for size in (count // 2, count, 2 * count)},
        "spread of cats": spread(other, half, count // 4),
        "spread of dogs": spread(other, dogs, count // 4),
    }


def plot(results: dict[str, Rows], file: Path) -> None:
    """Draw the Fréchet distances over their floors, a panel per harm."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 6, figsize=(15, 5.2), sharey=True, layout="constrained")
    for axis, (harm, amounts) in zip(axes.flat, AMOUNTS.items()):
        for name, rows in results.items():
            figures = [next(iter(found.values())) for found in rows[harm]]
            axis.plot(range(len(figures)), [f.value / f.floor for f in figures], marker=".", label=name)
        axis.axhline(1, color="grey", linestyle=":", linewidth=1)
        axis.set(yscale="log", title=harm)
        axis.set_xticks(range(len(amounts) + 1), ["none", *map(str, amounts)])
    axes.flat[0].set_ylabel("Fréchet distance over its floor")
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(*axes.flat[0].get_legend_handles_labels(), loc="center")
    figure.savefig(file, dpi=80)


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/set-distance"))
    parser.add_argument("--count", type=int, default=1000, help="images in a harmed set")
    parser.add_argument("--smoke", action="store_true", help="on synthetic images, one amount, no plot")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    count, amounts, sides = (40, 1, (16,)) if options.smoke else (options.count, 5, (32, 64))
    results, tables, judgements = dict[str, Rows](), dict[str, object](), []
    for side in sides:
        images = drawn(side) if options.smoke else loaded(options.data, side)
        for space in spaces(images[0][count:]) if side == sides[0] else [WAVELET]:
            name = f"{space.name} {side}"
            results[name], tables[name] = measured(space, images, count, amounts)
            judgements += [(name, *row) for row in judged(results[name])]
            (options.out / "set-distance.json").write_text(json.dumps(tables) + "\n", encoding="utf-8")
    show(Table(("space", "distance", "does not follow", "amounts above the floor", "of"), judgements))
    if not options.smoke:
        plot(results, options.out / "set-distance.png")


if __name__ == "__main__":
    main()
