"""What belongs together, what does not, and what is held out."""

from pathlib import Path

import pytest
from PIL import Image
from tiny import photograph, write_pairs

from rddm.errors import UserError
from rddm.pairs import HELD_OUT, check_sizes, hold_out, pair_up, unpaired


def test_folders_pair_by_name_in_natural_order(tmp_path: Path) -> None:
    clean, degraded = write_pairs(tmp_path)
    (degraded / "3.png").rename(degraded / "3.bmp")  # the suffix does not matter
    found = pair_up({"clean": clean, "degraded": degraded})
    assert found.names == [str(i) for i in range(12)]  # not 0, 1, 10, 11, 2 ...
    assert [path.stem for path in found.files["degraded"]] == found.names
    assert check_sizes(found, True) == (24, 32, 2 * 12 * 24 * 32)


def test_lists_pair_by_line_from_their_own_folder(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    (tmp_path / "a.flist").write_text("clean/2.png\n\nclean/0.png\n")
    (tmp_path / "b.flist").write_text("degraded/0.png\ndegraded/1.png\n")
    found = pair_up({"clean": tmp_path / "a.flist", "degraded": tmp_path / "b.flist"})
    assert found.names == ["2", "0"] and [p.name for p in found.files["degraded"]] == ["0.png", "1.png"]
    (tmp_path / "b.flist").write_text("degraded/0.png\n")
    with pytest.raises(UserError, match=r"b.flist: found 1 lines, expected the 2 of"):
        pair_up({"clean": tmp_path / "a.flist", "degraded": tmp_path / "b.flist"})
    (tmp_path / "b.flist").write_text("degraded/99.png\n")
    with pytest.raises(UserError, match=r"b.flist: degraded/99.png: no such file"):
        pair_up({"clean": tmp_path / "a.flist", "degraded": tmp_path / "b.flist"})


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    clean, degraded = write_pairs(tmp_path)
    (clean / "5.png").unlink()
    (degraded / "7.png").rename(degraded / "seven.png")
    with pytest.raises(UserError, match=r"10 pair by name, 3 do not: 7 \(only in .*clean\), 5 \(only in .*degraded\)"):
        pair_up({"clean": clean, "degraded": degraded})
    assert len(unpaired({"clean": clean, "degraded": degraded}).files["degraded"]) == 12
    Image.fromarray(photograph(0)).save(clean / "4.jpg")
    with pytest.raises(UserError, match=r"4.png: same name as 4.jpg|4.jpg: same name as 4.png"):
        pair_up({"clean": clean})


def test_sizes_and_broken_files_are_named(tmp_path: Path) -> None:
    clean, degraded = write_pairs(tmp_path)
    Image.fromarray(photograph(0, 20, 32)).save(degraded / "4.png")
    found = pair_up({"clean": clean, "degraded": degraded})
    with pytest.raises(UserError, match=r"degraded/4.png: found 32x20 pixels, expected the 32x24 of .*clean/4.png"):
        check_sizes(found, True)
    assert check_sizes(found, False).height == 20  # unpaired photographs may differ
    (degraded / "4.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"degraded/4.png: not an image"):
        check_sizes(found, True)


def test_turned_photographs_have_their_upright_size(tmp_path: Path) -> None:
    clean, degraded = write_pairs(tmp_path, 2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph(0, 32, 24)).save(degraded / "0.png", exif=exif)
    check_sizes(pair_up({"clean": clean, "degraded": degraded}), True)


@pytest.mark.parametrize("count", [2, 3, 20, 100, 485, 10_000])
def test_held_out_are_few_blocks_of_neighbours(count: int) -> None:
    fit, held = hold_out(count)
    assert sorted(fit + held) == list(range(count))
    assert 1 <= len(held) <= HELD_OUT and len(held) >= min(HELD_OUT, round(0.05 * count))
    gaps = sum(b - a > 1 for a, b in zip(held, held[1:]))
    assert gaps <= 1  # two blocks at most
    with pytest.raises(UserError, match="found 1 photograph"):
        hold_out(1)
