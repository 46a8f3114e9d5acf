"""What ``import rddm`` adds to ``import torch``, in fresh interpreters, in turn: the median ratio (goal 1.15)."""

import statistics
import subprocess
import sys
import time


def seconds(statement: str) -> float:
    """Return how long a fresh interpreter takes to run a statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main(runs: int = 7) -> None:
    """Measure and print."""
    seconds("import rddm")  # files in the cache
    pairs = [(seconds("import torch"), seconds("import rddm")) for _ in range(runs)]
    ratio = statistics.median(ours / torch for torch, ours in pairs)
    torch = statistics.median(torch for torch, _ in pairs)
    print(f"import: torch {torch:.2f} s, rddm {ratio:.3f} times that (median of {runs} pairs)")


if __name__ == "__main__":
    main()
