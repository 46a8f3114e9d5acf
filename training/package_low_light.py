"""Make the bundled model of a finished run: half precision weights, configuration, card with figures, recipe, log.

``python training/package_low_light.py --run runs/low-light --data ../shared/data/lol``
"""

import argparse
import json
import shutil
from pathlib import Path

import low_light
from safetensors.torch import load_file

from rddm.cost import gmacs
from rddm.evaluate import Options, evaluate, prepared
from rddm.model import BUNDLED, Model
from rddm.spec import ModelSpec, with_card


def means(folder: Path, protocol: str, test: Path) -> dict[str, float]:
    """Return the mean figures of a written model on the test split."""
    options = Options(protocol, test / "target", degraded=test / "input", model=str(folder))
    return {name: round(value.mean, 4) for name, value in evaluate(*prepared(options)).figures.items()}


def main(run: Path, data: Path) -> None:
    """Write the model, then score what was written."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    model = Model(ModelSpec("low-light", low_light.NETWORK, low_light.METHOD))
    model.net.load_state_dict(load_file(run / "ema.safetensors"))
    first, last = log[0], log[-1]
    card = {
        "task": "low-light photos",
        "data": f"LOL-v1 train, {first['trained_on']} of 485 pairs",
        "terms": "the data set's page states no terms; research use",
        "recipe": f"training/low_light.py, seed {first['recipe']['seed']}, {last['step']} updates",
        "cost": f"{last['seconds'] / 60:.0f} minutes on {first['device']}, {first['threads']} threads",
        "held_out": f"{last['held_out_psnr_rgb']} dB RGB on {len(first['held_out'])} crops of contiguous ids",
        "parameters": first["parameters"],
        "gmacs_256": round(gmacs(model), 3),
    }
    folder = BUNDLED / "low-light"
    shutil.rmtree(folder, ignore_errors=True)
    model.spec = with_card(model.spec, card)
    model.half().save_pretrained(folder)
    scores = {name: means(folder, name, data / "test") for name in ("lol-rgb", "lol-256-y")}
    (folder / "README.md").unlink()
    model.spec = with_card(model.spec, {"scores": scores})
    model.save_pretrained(folder)
    shutil.copy(run / "log.jsonl", folder / "log.jsonl")
    for name, score in scores.items():
        print(f"{name}: {score['psnr']:.2f} dB, SSIM {score['ssim']:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/low-light"))
    parser.add_argument("--data", type=Path, required=True, help="the LOL folder, as ../shared/data/lol")
    args = parser.parse_args()
    main(args.run, args.data)
