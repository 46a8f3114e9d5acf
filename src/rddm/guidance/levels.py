"""Where a guided sampler stops on its way: by equal steps of time, or by equal factors of the noise."""

from rddm.path import CLEAN, Node, Path


def even(path: Path, steps: int) -> list[Node]:
    """Return the path's own trajectory."""
    return path.grid(steps)


def node_of(path: Path, ratio: float) -> Node:
    """Return the node where ``bbar`` is ``ratio`` times ``1 - abar``, by bisection in time; the start if none is.

    The ratio, a VE diffusion's noise level, must grow with time.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        t = (low + high) / 2
        abar, bbar, _ = path.node(t)
        low, high = (t, high) if bbar < ratio * (1 - abar) else (low, t)
    return path.node(high)


def geometric(path: Path, steps: int, first: float = 40.0, last: float = 0.01) -> list[Node]:
    """Return the trajectory whose noise levels ``bbar / (1 - abar)`` fall from ``first`` to ``last`` by equal factors.

    What ends with the denoiser's estimate, such as DDRM, wants its last one to be of an image with hardly any noise.
    """
    if steps < 2:
        raise ValueError(f"steps: found {steps}, expected at least 2 to go by equal factors")
    return [node_of(path, first * (last / first) ** (i / (steps - 1))) for i in range(steps)] + [CLEAN]
