"""Measure the goals: what each model is to reach, what it reaches now, and what others reach.

    python training/goals.py --data ../shared/data --more FOLDER
    python training/goals.py --data ../shared/data --only denoise,low-light --limit 8

One ``rddm evaluate`` for each row of ``training/goals_table.py``. The table is printed, and written to docs/goals.json
and docs/goals.md; with ``--limit`` (so many images of each set) or ``--state`` (models in training) to runs/goals
instead, so that the page has full figures of bundled models alone. Rows that were not measured this time keep what
they had.

``--more`` holds further test sets, which nobody trained on, as folders of clean photos (mcmaster, kodak, bsd100,
urban100) and pairs (cc15/input, cc15/target); docs/goals.md says whence anyone gets them. What is not there is skipped
with a line.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from goals_measure import RUNS, Place, Row, measured, missing
from goals_page import page, table
from goals_table import GOALS, Goal

from rddm.batch import make_folder
from rddm.errors import UserError
from rddm.page import write_file
from rddm.report import show

DOCS = Path("docs")
JSON, PAGE = "goals.json", "goals.md"


def chosen(only: str) -> list[Goal]:
    """Return the rows of some models, protocols or sets; all if empty.

    Raises:
        UserError: if there is none of a name.
    """
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if not any(name in (goal.name, goal.model, goal.protocol, goal.test) for goal in GOALS.values()):
            raise UserError(f"--only: found {name!r}, expected a model, a protocol, a set or a row of the table")
    return [g for g in GOALS.values() if not wanted or {g.name, g.model, g.protocol, g.test} & {*wanted}]


def record(rows: Mapping[str, Row], out: Path) -> dict[str, Row]:
    """Write rows to goals.json, beside those that it has of other goals in the table, and the page; return them all.

    Raises:
        UserError: if the folder cannot be written to.
    """
    file = out / JSON
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    merged = {**known, **rows}
    kept = {name: merged[name] for name in GOALS if name in merged}
    make_folder(out)
    write_file(file, (json.dumps(kept, indent=2) + "\n").encode())
    write_file(out / PAGE, page(kept).encode())
    return kept


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; 2 if a row failed."""
    goals, place = chosen(args.only), Place(args.data, args.more, args.state)
    out = args.out or (DOCS if args.limit is None and args.state is None else RUNS)
    if not args.data.is_dir():
        raise UserError(f"--data {args.data}: no such folder, expected the data folder, as ../shared/data")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit: found {args.limit}, expected at least 1")
    wanted = [] if args.page else [goal for goal in goals if not missing(goal, place)]
    found = {} if args.page else measured(goals, place, args.limit)
    rows = record(found, out)
    if found:
        show(table([goal for goal in goals if goal.name in found], rows))
    limited = "" if args.limit is None else f", of {args.limit} images of each set"
    print(f"{out}: {JSON}, {PAGE}; {len(found)} of {len(goals)} rows measured{limited}")
    return 0 if len(found) == len(wanted) else 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; a user's mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data folder, as ../shared/data")
    parser.add_argument(
        "--more", type=Path, help="folder of further test sets: mcmaster, kodak, bsd100, urban100, cc15"
    )
    parser.add_argument("--only", default="", metavar="A,B", help="models, protocols, sets or rows; all if not given")
    parser.add_argument("--limit", type=int, help="so many images of each set, evenly spread")
    parser.add_argument("--state", type=Path, help="of jobs/zoo.py: measure STATE/NAME/model where there is one")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page of goals.json again")
    parser.add_argument("--out", type=Path, help="folder of goals.json and goals.md (docs; runs/goals if in part)")
    try:
        return run(parser.parse_args(argv))
    except UserError as error:
        print(f"goals: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
