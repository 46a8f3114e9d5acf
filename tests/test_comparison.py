"""Rows are compared on equal terms, a comparison goes on where it stopped, and refuses what does not belong to it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from rddm.cli import main
from rddm.comparison import CALLS, Terms, compared, supervised, table_of
from rddm.errors import UserError
from rddm.methods import METHODS

TERMS = Terms(updates=2, side=16, batch=2)


def sources(folder: Path) -> dict[str, Path]:
    clean, degraded = tiny.write_pairs(folder)
    return {"clean": clean, "degraded": degraded}


def test_rows_that_restore_start_from_the_degraded_image_or_see_it() -> None:
    rows = supervised()
    assert {"rddm", "resshift", "flow-paired"} <= rows.keys() and not {"ddpm", "flow", "rddm-generation"} & rows.keys()
    assert all(row.origin == "input" or "degraded" in row.inputs for row in rows.values())


def test_rows_differ_in_nothing_but_the_row() -> None:
    recipes = [TERMS.recipe(row) for row in supervised().values()]
    first, shapes = recipes[0], {(r.network.widths, r.network.blocks) for r in recipes}
    assert all(replace(r, name=first.name, method=first.method, network=first.network) == first for r in recipes)
    assert len(shapes) == 1


def test_a_comparison_goes_on_where_it_stopped(tmp_path: Path) -> None:
    photos, said = sources(tmp_path), []
    results = compared(TERMS, photos, ["rddm-res", "resshift"], tmp_path / "out", said.append)
    assert results["rddm-res"].keys() == {str(n) for n in CALLS}
    assert results["resshift"].keys() == {"1", "2", "5", "10"}  # its table has 15 nodes
    assert json.loads((tmp_path / "out/comparison.json").read_text()) == results
    assert all((tmp_path / "out" / name).exists() for name in ("calls.png", "comparison.png"))
    weights = tmp_path / "out/rddm-res/model.safetensors"
    before = weights.stat().st_mtime_ns
    again = compared(TERMS, photos, ["rddm-res", "resshift"], tmp_path / "out", said.append)
    assert again == results and weights.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another recipe"):
        compared(replace(TERMS, updates=3), photos, ["rddm-res"], tmp_path / "out", said.append)


def test_a_row_from_noise_is_shown_what_it_restores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(METHODS["ddpm"], name="shown", inputs=("degraded",), steps=2)
    monkeypatch.setitem(METHODS, "shown", row)
    results = compared(TERMS, sources(tmp_path), ["shown"], tmp_path / "out", lambda _: None)
    assert torch.isfinite(torch.tensor([row["psnr"] for row in results["shown"].values()])).all()


def test_the_best_rows_come_first() -> None:
    rows = {"a": {"1": {"psnr": 20.0}, "2": {"psnr": 19.0}}, "b": {"1": {"psnr": 21.0}}, "input": {"0": {"psnr": 9.0}}}
    table = table_of(rows)
    assert [row[0] for row in table.rows] == ["b", "a"] and table.rows[1][1:3] == ["20.00", "19.00"]


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = sources(tmp_path)
    given = ["compare-methods", "--clean", str(photos["clean"]), "--out", str(tmp_path / "out")]
    assert main([*given, "--methods", "rddm,foo", "--degraded", str(photos["degraded"])]) == 2
    assert "--methods: found foo, expected some of" in capsys.readouterr().err
    assert main(given) == 2
    assert "--degraded, --degrade: found neither" in capsys.readouterr().err
    assert main([*given, "--degraded", str(photos["degraded"]), "--side", "8"]) == 2
    assert "phases" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
