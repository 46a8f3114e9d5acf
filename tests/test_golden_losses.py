"""Every recorded loss and gradient of the authors' training, with our objective on the same draws."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from published_rules import (
    OBJECTIVES,
    Arrays,
    clock_of,
    converted,
    integer,
    largest,
    net_of,
    popped,
    row,
    table_path,
)
from torch import Tensor

from rddm.aosa import blended, specified, target_of
from rddm.denoiser import NetworkDenoiser
from rddm.loss import Batch, Distance, losses
from rddm.path import TabulatedPath
from rddm.prediction import RES
from rddm.published import rename

P_LOSSES, GRADS, AOSA = (f"losses/{name}.safetensors" for name in ("p_losses", "grads", "aosa"))
FILES = [P_LOSSES, GRADS, AOSA]
DISTANCES: dict[str, Distance] = {"l1": F.l1_loss, "l2": F.mse_loss}
DDIM_TABLES = ("exp0_ddim_converted", "ddim_linear/ctor/T1000")
POWER_TABLES = ("exp0_noddim", "ctor/T1000/cond1_sum1")
LENGTH = 1000
BAND = specified(F.l1_loss).band


def recorded_tables(golden: Path, file: str, group: str) -> TabulatedPath:
    """Return the path of the float32 tables that the reference trained with."""
    return table_path(Arrays(golden / f"schedules/{file}.safetensors").below(group))


@dataclass
class Case:
    """One recorded call of ``p_losses``, named ``experiment/objective/setting/distance``, and what the net saw."""

    denoiser: NetworkDenoiser
    x_0: Tensor
    x_in: Tensor
    t: Tensor
    eps: Tensor
    distance: Distance
    shown: list[Tensor] = field(default_factory=list)
    outputs: tuple[Tensor, ...] = ()

    def losses(self) -> Tensor:
        """Return one loss per output, and keep what the net saw and said."""
        handle = self.denoiser.net.register_forward_hook(self.keep)
        per_head = losses(self.denoiser, self.x_0, self.x_in, self.t, popped(self.eps), self.distance)
        handle.remove()
        return per_head

    def keep(self, net: torch.nn.Module, shown: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        """Remember one call of the net."""
        self.shown, self.outputs = list(shown), outputs


def read_case(golden: Path, arrays: Arrays, name: str, path: TabulatedPath) -> Case:
    """Set one recorded call up, in float64."""
    experiment, objective, setting, distance = name.split("/")
    rule = OBJECTIVES[objective]
    conditioned, masked, added = setting != "uncond", setting.startswith("mask"), "_add_" in objective
    weights = "mask2" if masked else "share1" if added else "cond2" if conditioned else "uncond2"
    rule = replace(rule, part="") if added else rule
    net = net_of(golden, f"sampling/weights_{weights}", rule.part, torch.float64)
    inputs = ("x_in", "mask") if masked else ("x_in",) if conditioned else ()
    clock = clock_of(rule, experiment == "exp0", LENGTH)
    images = {key: arrays[key].double() for key in ("gt", "input", "mask", "noise")}
    x_in = images["input"] if conditioned else torch.zeros_like(images["gt"])
    denoiser = NetworkDenoiser(net, row(rule, path, inputs, clock), {"mask": images["mask"]})
    t = (arrays["t"].double() + 1) / LENGTH
    return Case(denoiser, images["gt"], x_in, t, images["noise"], DISTANCES[distance])


def path_of(name: str) -> TabulatedPath:
    """Return the path in float64 of a recorded call."""
    experiment, _, setting, _ = name.split("/")
    noise = float(setting.partition("sum")[2] or 1)
    return integer(LENGTH, noise) if experiment == "exp2" else converted(LENGTH, noise)


def check_net(case: Case, arrays: Arrays, name: str) -> None:
    """The net was shown the recorded state and clock, and said what it said."""
    # Measured: 2.7e-7 for what it saw, 8.3e-6 for what it said, the round-off of its float32.
    assert largest(case.shown[0], arrays[f"{name}/net_in"]) < 1e-6, f"{name}/net_in"
    for i, output in enumerate(case.outputs):
        assert largest(output, arrays[f"{name}/net_out{i}"]) < 5e-5, f"{name}/net_out{i}"
    if f"{name}/net_time0" in arrays:  # each recorded for both nets; a single one sees the clock of what it predicts
        clocks = torch.stack([arrays[f"{name}/net_time{i}"] for i in (0, 1)], dim=1)
        seen = OBJECTIVES[name.split("/")[1]].seen
        # Measured: 1.5e-5, float32 near 1000.
        assert largest(case.shown[1], clocks[:, list(seen)]) < 1e-4, f"{name}/net_time"


@pytest.mark.parametrize("file", [P_LOSSES])
def test_golden_losses(golden: Path, file: str) -> None:
    arrays = Arrays(golden / file)
    for name in arrays.groups():
        # What the net saw at t = 0 depends on the rounding of converted tables; the loss, a mean, does not.
        case = read_case(golden, arrays, name, path_of(name))
        tables = name.startswith("exp0") and recorded_tables(golden, *DDIM_TABLES)
        rounded = read_case(golden, arrays, name, tables) if tables else case
        for each in (case, rounded):
            per_head = each.losses()
            # exp2 averages the sum over the outputs, exp0 keeps a list. Measured: 3.5e-7.
            found = per_head.sum().view(1) if name.startswith("exp2") else per_head
            assert largest(found, arrays[f"{name}/loss"]) < 2e-6, f"{name}/loss"
        check_net(rounded, arrays, name)
    assert not arrays.unused()


@pytest.mark.parametrize("file", [GRADS])
def test_golden_gradients(golden: Path, file: str) -> None:
    arrays, inputs = Arrays(golden / file), Arrays(golden / P_LOSSES)
    for name in sorted({"/".join(key.split("/")[:4]) for key in arrays}):
        case = read_case(golden, inputs, name, path_of(name))
        case.losses().sum().backward()
        found = {key: parameter.grad for key, parameter in case.denoiser.net.named_parameters()}
        expected = arrays.below(name)
        if not any(key.startswith("unet1.") for key in expected):
            expected = {key.removeprefix("unet0."): value for key, value in expected.items()}
        expected = rename(expected)
        assert found.keys() == expected.keys(), name
        for key, value in expected.items():
            # Measured: 2.9e-7, where the largest gradients are about 0.1; biases before a norm have none but round-off.
            assert largest(found[key], value) < 2e-6, f"{name}/{key}"
    assert not arrays.unused()


def automatic(case: Case, share: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses and their total of the automatic choice of objective: the package's; one loss once decided."""
    batch = Batch(case.x_0, case.x_in, case.t, case.eps, {})
    if abs(share.item() - 0.5) < BAND:
        res, noise = blended(case.denoiser, batch, share, case.distance)
        return {"loss_res": res, "loss_noise": noise}, share * res + (1 - share) * noise
    target = target_of(case.denoiser.method, share.item())
    decided = replace(case.denoiser, method=replace(case.denoiser.method, target=target))
    (loss,) = losses(decided, case.x_0, case.x_in, case.t, popped(case.eps), case.distance)
    return {"loss_res" if target is RES else "loss_noise": loss}, loss


@pytest.mark.parametrize("file", [AOSA])
def test_golden_automatic_objective(golden: Path, file: str) -> None:
    arrays = Arrays(golden / file)
    paths = {
        "ddim_tables_as_released": recorded_tables(golden, *DDIM_TABLES),
        "exp0type_rddm_tables": recorded_tables(golden, *POWER_TABLES),
        "exp2_rddm_tables": integer(LENGTH, 1.0),
    }
    for name in arrays.groups():
        tables, distance, share = name.split("/")
        case = aosa_case(golden, arrays, paths[tables], distance, "t_nz" if tables.startswith("exp0type") else "t")
        check_automatic(arrays, name, case, float(share.removeprefix("alpha")))
    assert not arrays.unused()


def aosa_case(golden: Path, arrays: Arrays, path: TabulatedPath, distance: str, times: str) -> Case:
    """Set one recorded call up, in float64."""
    net = net_of(golden, "sampling/weights_cond2", "unet0", torch.float64)
    x_0, x_in, eps = (arrays[key].double() for key in ("gt", "input", "noise"))
    t = (arrays[times].double() + 1) / LENGTH
    denoiser = NetworkDenoiser(net, row(OBJECTIVES["pred_res"], path, ("x_in",)))
    return Case(denoiser, x_0, x_in, t, eps, DISTANCES[distance])


def check_automatic(arrays: Arrays, name: str, case: Case, share: float) -> None:
    """The losses, and the gradients that reach the net's ends and lambda itself, agree relative to their size."""
    alpha = torch.tensor(share, dtype=torch.float64, requires_grad=True)
    found, total = automatic(case, alpha)
    total.backward()
    net = case.denoiser.net
    stem, head = net.encoders[0].stem.weight.grad, net.decoders[0].head.weight.grad
    found |= {"total": total, "grad_init_conv_weight": stem, "grad_final_conv_weight": head}
    found |= {"grad_alpha": alpha.grad} if alpha.grad is not None else {}
    for key, expected in arrays.below(name).items():
        if key not in found:  # once decided, one loss is 0 and lambda's gradient NaN: neither exists
            assert bool((expected.isnan() | (expected == 0)).all()), f"{name}/{key}"
            continue
        # Measured: 3.4e-7 of the losses, 5e-6 of the gradients, 1.2e-5 of lambda's, which is a difference.
        bound = 5e-5 if key.startswith("grad") else 2e-6
        assert largest(found[key], expected) <= bound * float(expected.abs().max()), f"{name}/{key}"
