"""Models: a network with its specification, as ``model.safetensors`` and ``config.json``, and how to find them."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rddm.denoiser import NetworkDenoiser
from rddm.engines import DEFAULT as DEFAULT_ENGINE
from rddm.engines import ENGINES, engine_for
from rddm.errors import UserError
from rddm.heap import give_back_freed
from rddm.nn.compact import Compact, Several
from rddm.nn.unet import UNet, UNetConfig
from rddm.nn.unet2d import UNet2D, UNet2DConfig
from rddm.spec import ModelSpec, Shape, read_spec, spec_to_json

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
BUNDLED = Path(__file__).parent / "models"
DEFAULT = "low-light"
COMPANION = "-realism"  # how the names of bundled second stages end


def network(config: Shape) -> nn.Module:
    """Return a network of the given shape, with fresh weights."""
    if isinstance(config, UNetConfig):
        return UNet(config)
    if isinstance(config, UNet2DConfig):
        return UNet2D(config)
    return Compact(config) if config.nets == 1 else Several(config)


def inference_network(config: Shape, engine: str = DEFAULT_ENGINE) -> nn.Module:
    """Return a network as :meth:`Model.optimize` leaves it, with fresh weights, as far as its shapes go."""
    return ENGINES[engine].shapes(network(config))


class Model(nn.Module, PyTorchModelHubMixin, library_name="rddm", tags=["image-restoration", "diffusion"]):
    """A network with what it takes to restore photographs with it.

    ``Model.from_pretrained``, ``save_pretrained`` and ``push_to_hub`` are those of ``huggingface_hub``.

    Arguments:
        spec: what the model is.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.net = network(spec.network)
        self.engine: str | None = None
        self.folder: Path | None = None  # where it was read from
        self.companions: list[
            Model
        ] = []  # its second stage, once it was loaded; in a list it is no part of this module

    def optimize(self, engine: str = DEFAULT_ENGINE) -> "Model":
        """Make the model fit for inference where it is, in place: the same pictures in less time and memory.

        It cannot be undone: the model can be neither trained nor saved after that, nor moved elsewhere, nor made fit
        for another engine.

        Arguments:
            engine: a name in ``rddm.engines.ENGINES``: "float32", or "bfloat16" or "int8" for half of the time
                where the processor computes so.

        Raises:
            UserError: if there is no such engine here, or the model was optimized for another.
        """
        if self.engine not in (None, engine):
            raise UserError(f"{self.spec.name}: was optimized for {self.engine}, expected a model as it was loaded")
        if self.engine is None:
            self.net = engine_for(engine, next(self.parameters()).device).make(self.net)
            self.engine = engine
            give_back_freed()  # the weights as they were loaded
        return self

    def denoiser(self, conditions: dict[str, Tensor] | None = None) -> NetworkDenoiser:
        """Return the denoiser that samplers ask, with the conditions of one batch."""
        return NetworkDenoiser(self.net, self.spec.method, conditions or {})

    def restore(
        self,
        image: "Image",
        steps: int | None = None,
        seed: int = 0,
        mask: "Image | None" = None,
        strength: float = 1.0,
        realism: float = 0.0,
    ) -> "Image":
        """Return the restored photograph, of the same size and with the same alpha.

        Arguments:
            image: any Pillow image; it is restored as grey or RGB of 8 bits.
            steps: network calls; the model's default if None.
            seed: what the noise is drawn from; the same seed gives the same picture.
            mask: of the same size, white where to restore, for models that are shown one.
            strength: share of the restored photograph, from 0 (the image exactly) to 1.
            realism: 0 is the least error, 1 looks most like a photograph, for models with a second stage.

        Raises:
            UserError: if the model wants a mask and there is none, or the other way round, or it does not fit; if
                strength or realism is out of range, or realism is asked for and there is no second stage.
        """
        from rddm.stages import restore_image

        return restore_image(self, image, steps, seed, mask, strength, realism)

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.engine is not None:
            raise UserError(f"{self.spec.name}: was optimized, expected a model as it was loaded: save before that")
        weights = {name: value.contiguous() for name, value in self.net.state_dict().items()}
        write_aside(save_directory / WEIGHTS, lambda path: save_file(weights, path, metadata={"format": "pt"}))
        text = json.dumps(spec_to_json(self.spec), indent=2) + "\n"
        write_aside(save_directory / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
        if not (save_directory / CARD).exists():
            write_aside(save_directory / CARD, lambda path: path.write_text(card_text(self.spec), encoding="utf-8"))

    @classmethod
    def _from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]  # no catch-all that swallows typos
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
    ) -> "Model":
        if os.path.isdir(model_id):
            return read_model(Path(model_id), map_location)
        for name in (CONFIG, WEIGHTS):
            found = hf_hub_download(
                model_id,
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        return read_model(Path(found).parent, map_location)


def write_aside(path: Path, write: Any) -> None:
    """Call ``write`` with a neighbour of ``path``, then rename it: the file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def card_text(spec: ModelSpec) -> str:
    """Return the model's card as Markdown."""
    head = "---\nlibrary_name: rddm\ntags:\n- image-restoration\n- diffusion\n---\n\n"
    lines = [
        f"* **{key}**: {value if isinstance(value, str) else json.dumps(value)}" for key, value in spec.card.items()
    ]
    return f"{head}# {spec.name}\n\n" + "\n".join(lines) + "\n"


def read_model(folder: Path, map_location: str = "cpu") -> Model:
    """Read a model's folder.

    Raises:
        UserError: if a file is missing or damaged, or the weights do not fit the configuration or hold a NaN.
    """
    spec = read_spec(folder / CONFIG)
    file = folder / WEIGHTS
    try:
        weights = load_file(file, device=map_location)
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file}: cannot be read ({reason}), expected the model's safetensors") from None
    with torch.device("meta"):
        model = Model(spec)
    check_weights(model.net.state_dict(), weights, file)
    model.net.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    model.folder = folder
    return model.eval().requires_grad_(False)


def check_weights(expected: dict[str, Tensor], found: dict[str, Tensor], file: Path) -> None:
    """Compare names and shapes, and look for values that are not finite.

    Raises:
        UserError: at the first that is wrong.
    """
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise UserError(f"{file}: {name} is missing, expected shape {tuple(expected[name].shape)}")
        if name not in expected:
            raise UserError(f"{file}: found {name}, expected no such weight in this network")
        if found[name].shape != expected[name].shape:
            shapes = f"shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
            raise UserError(f"{file}: {name} has {shapes}")
        if not torch.isfinite(found[name]).all():
            raise UserError(f"{file}: {name} holds NaN or infinity, expected finite weights")


def shipped() -> list[str]:
    """Return the names of all models that come with the package, second stages too."""
    return sorted(folder.parent.name for folder in BUNDLED.glob(f"*/{CONFIG}"))


def bundled() -> list[str]:
    """Return the names of the models that come with the package and restore or generate by themselves."""
    return [name for name in shipped() if not name.endswith(COMPANION)]


def load(name: str | Path = DEFAULT, device: str = "cpu") -> Model:
    """Return a model: one that comes with the package, a folder, or a repository of the Hugging Face hub.

    Raises:
        UserError: if there is no such model, or it cannot be read.
    """
    if str(name) in shipped():
        return read_model(BUNDLED / str(name)).to(device)
    if os.path.isdir(name):
        return read_model(Path(name)).to(device)
    if str(name).count("/") == 1 and not os.path.exists(name) and not str(name).startswith((".", "/")):
        return from_hub(str(name)).to(device)
    raise UserError(f"{name}: no such model, expected one of {', '.join(bundled())}, or a folder with {CONFIG}")


def spec_named(name: str) -> ModelSpec:
    """Return the specification of a model that :func:`load` knows.

    Raises:
        UserError: if there is none.
    """
    folder = BUNDLED / name if name in shipped() else Path(name)
    return read_spec(folder / CONFIG) if folder.is_dir() else load(name).spec


def companion_of(model: Model) -> Model:
    """Return a model's second stage, on its device and made fit for its engine; it is loaded once.

    Raises:
        UserError: if the model names none, or what it names cannot be loaded.
    """
    name = model.spec.realism
    if name is None:
        raise UserError(f"{model.spec.name}: names no second stage, expected a model that has one")
    if not model.companions:
        near = [] if model.folder is None else [model.folder / name, model.folder.parent / name]
        found = next((folder for folder in near if (folder / CONFIG).is_file()), name)
        second = load(found).to(next(model.parameters()).device)
        model.companions.append(second if model.engine is None else second.optimize(model.engine))
    return model.companions[0]


def from_hub(name: str) -> Model:
    """Return a model of the Hugging Face hub.

    Raises:
        UserError: if it is not there, or the hub cannot be reached.
    """
    try:
        return Model.from_pretrained(name)
    except UserError:
        raise
    except Exception as error:  # the client raises what its transports raise
        reason = str(error).splitlines()[0][:100]
        raise UserError(f"{name}: neither a folder nor a model that could be fetched from the hub ({reason})") from None
