"""Muon: momentum whose every matrix is made orthogonal before it moves the weights (Jordan et al., 2024).

A convolution's kernel is a matrix, outputs by inputs and taps. Its momentum ``M = U S V^T`` is mostly of low rank: a
few directions take nearly all of the step. Muon moves the kernel by ``U V^T`` instead, all directions alike. The
factorisation is not worked out; five steps of a Newton-Schulz iteration

    X <- a X + (b A + c A^2) X,    A = X X^T,    X_0 = M / |M|,    (a, b, c) = (3.4445, -4.7750, 2.0315)

bring the singular values near 1. A GPU works them out in bfloat16, whose rounding does no harm. The step
``0.2 sqrt(max(rows, columns)) lr`` has the root mean square of one of Adam's (Liu et al., "Muon is Scalable for LLM
Training", 2025). What is no kernel of at least 16 rows and columns (biases, gains, the last kernel) moves by AdamW.

Kernels of one shape are one batch of matrices: on two CPU cores the step then costs a tenth of an update.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

LEAST = 16  # rows and columns of a kernel that is worth making orthogonal
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SCALE = 0.2  # the root mean square of Adam's step over its learning rate
REST = 0.3  # the learning rate of what moves by AdamW, over that of the kernels


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices (N, rows, columns) with their singular values brought near 1.

    Args:
        matrices: of any scale.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def is_kernel(weight: Tensor) -> bool:
    """Tell whether a weight is a convolution's kernel large enough to be moved by Muon."""
    return weight.ndim > 2 and len(weight) >= LEAST and weight[0].numel() >= LEAST and weight.shape[1] >= LEAST


class Muon(Optimizer):
    """Muon for the kernels, AdamW for the rest.

    Args:
        weights: parameters.
        lr: learning rate of the kernels; that of the rest is ``REST`` of it.
        betas: AdamW's momenta.
        weight_decay: decoupled, of all.
        momentum: of the kernels, Nesterov's.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        lr: float = 1.5e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-4,
        momentum: float = 0.95,
    ) -> None:
        every = list(weights)
        kernels, rest = ([w for w in every if is_kernel(w) is kind] for kind in (True, False))
        defaults: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__([{"params": kernels}, {"params": rest}], defaults)
        self.adamw = AdamW(rest, lr=REST * lr, betas=betas, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move all weights once; those without a gradient stay."""
        kernels, rest = self.param_groups
        self.adamw.param_groups[0]["lr"] = REST * rest["lr"]
        self.adamw.step()
        lr = kernels["lr"]
        for same in by_shape(kernels["params"]):
            directions = orthogonalised(self.momenta(same, kernels["momentum"]))
            torch._foreach_mul_(same, 1 - lr * kernels["weight_decay"])
            moves = [d.to(w.dtype).view(w.shape) for d, w in zip(directions.unbind(), same, strict=True)]
            torch._foreach_add_(same, moves, alpha=-SCALE * max(directions.shape[1:]) ** 0.5 * lr)

    def momenta(self, kernels: list[Tensor], momentum: float) -> Tensor:
        """Return Nesterov's momenta of kernels of one shape as matrices (N, outputs, inputs and taps)."""
        gradients: list[Tensor] = [kernel.grad for kernel in kernels if kernel.grad is not None]
        for kernel in kernels:
            if kernel not in self.state:
                self.state[kernel]["momentum"] = torch.zeros_like(kernel)
        kept = [self.state[kernel]["momentum"] for kernel in kernels]
        torch._foreach_lerp_(kept, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, kept, momentum)
        return torch.stack([gradient.flatten(1) for gradient in ahead])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all weights."""
        super().zero_grad(set_to_none)
        self.adamw.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, of both parts."""
        return {"muon": super().state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        super().load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])


def by_shape(kernels: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return the kernels that have a gradient in groups of one shape."""
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for kernel in kernels:
        if kernel.grad is not None:
            groups.setdefault(tuple(kernel.shape), []).append(kernel)
    return list(groups.values())
