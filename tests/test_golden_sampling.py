"""Every recorded run of the authors' samplers, run again with our paths, targets, clips and gains."""

from itertools import product
from pathlib import Path

import pytest
import torch
from published_rules import FAMILIES, FLOOR, Arrays, Recording, largest, net_of, recording, row
from published_rules import OBJECTIVES as RULES
from torch import Tensor

from rddm.clipping import clip_none
from rddm.denoiser import NetworkDenoiser
from rddm.path import CLEAN, Node, mix
from rddm.prediction import Prediction, eps_from_res, from_res_eps, x_0_from_eps
from rddm.schedules import PowerPath
from rddm.transition import anchor_x_0, anchor_x_t, residual, transition

OBJECTIVES = ("pred_res", "pred_noise", "pred_res_noise", "pred_x0_noise", "pred_res_add_noise", "pred_x0_add_noise")
STEPS = ("ddim2", "ddim5", "ddim10", "ddpm_T20")
FREE = ("ddim5_eta0", "ddim5_eta1", "ddim10_eta0", "ddim10_eta1", "ddpm_T20")
EXP2 = (
    *(f"exp2/{o}_cond_sum{noise}_{steps}" for o, noise, steps in product(OBJECTIVES, ("0.01", "1"), STEPS)),
    *(f"exp2/{o}_uncond_{steps}" for o, steps in product(OBJECTIVES[:4], FREE)),
    *(f"exp2/{o}_cond_sum1_ddim5_{case}" for o, case in product(("pred_res", "pred_res_noise"), ("eta1", "nonsquare"))),
    "exp2/pred_res_mask0_sum0.01_ddim5",
    *(f"exp2/{o}_mask1_sum0.01_ddim5" for o in ("pred_res", "pred_res_noise", "pred_x0_noise")),
)
USED = ("res", "noise", "res_noise")
RESTORED = ("pred_res", "pred_noise", *(f"pred_res_noise_{used}" for used in USED))
OTHERS = (
    *(f"exp0/{o}_num1_{start}_ddim5" for o, start in product(OBJECTIVES[:2], ("cond_sum1", "uncond"))),
    *(f"exp0/pred_res_noise_{used}_uncond_ddim{steps}_eta0" for used, steps in product(USED, (5, 10))),
    "exp0/pred_res_noise_cond_sum1_ddim5",
    "exp0/pred_res_noise_res_noise_uncond_ddim5_eta1",
    "exp0/pred_res_noise_uncond_ddpm_T20",
    *(f"exp0/restoration_{o}_cond_sum{noise}_ddim5" for o, noise in product(RESTORED, ("0.01", "1"))),
    *(f"exp0/simultaneous_pred_res_noise_uncond_ddim{steps}" for steps in (5, 10)),
    *(f"exp{n}/pred_res_noise_i2i_sum1_ddim5" for n in (4, 5)),
    *(f"exp6/pred_res_noise_uncond_ddim{steps}" for steps in (5, 10)),
)
CLOSED_FORMS = "sampling/exp2/closed_forms.safetensors"


def files(names: tuple[str, ...]) -> list[str]:
    """Return the golden files of these recordings."""
    return [f"sampling/{name}.safetensors" for name in names]


FILES = [*files(EXP2), *files(OTHERS), CLOSED_FORMS]


def check_times(found: Recording) -> None:
    """The grid visits the recorded indices, once per pass."""
    length = found.denoiser.method.path.length
    visited = [round(node.t * length) - 1 for node in found.trajectory[:-1]]
    times = found.arrays["times"].tolist()
    assert times == visited * (len(times) // len(visited))


def check_states(found: Recording, steps: list[tuple[Tensor, Prediction]], tolerance: float) -> None:
    """The states agree in units of the recorded images, (x + 1) / 2, the start included where it was recorded."""
    states = torch.stack([found.x_start, *(x_t for x_t, _ in steps)])
    expected = found.arrays["traj"]
    assert len(expected) in (len(states), len(states) - 1)
    assert largest((states[-len(expected) :] + 1) / 2, expected) <= tolerance, "traj"


def check_predictions(found: Recording, steps: list[tuple[Tensor, Prediction]]) -> None:
    """The estimates agree in the same units: eps as it acts, times bbar: where that is small float32 cannot tell."""
    arrays, bbar = found.arrays, [now.bbar for now in found.trajectory[:-1]]
    weights = torch.tensor(bbar * (len(steps) // len(bbar))).view(-1, 1, 1, 1, 1)
    for field, key, weight in (
        ("x_0", "pred_x_start", 0.5),
        ("res", "pred_res", 0.5),
        ("eps", "pred_noise", weights / 2),
    ):
        if key in arrays:
            ours = torch.stack([getattr(prediction, field) for _, prediction in steps])
            assert largest(ours * weight, arrays[key] * weight) <= found.tolerance, key


@pytest.mark.parametrize("file", files(EXP2))
def test_golden_sampling_exact(golden: Path, file: str) -> None:
    found = recording(golden, file, torch.float64)
    steps = found.run()
    check_times(found)
    check_states(found, steps, found.tolerance)
    check_predictions(found, steps)
    # Measured: 2e-13 (the posterior sampler of pred_x0_add_noise), 3e-14 for the rest.
    assert largest((steps[-1][0] + 1) / 2, found.arrays["final_f64"]) < 1e-11
    assert not found.arrays.unused()


@pytest.mark.parametrize("file", [file for file in files(EXP2) if "ddim5" in file])
def test_golden_sampling_in_float32(golden: Path, file: str) -> None:
    found = recording(golden, file, torch.float32)
    check_states(found, found.run(), found.tolerance)


@pytest.mark.parametrize("file", files(OTHERS))
def test_golden_sampling_of_the_other_experiments(golden: Path, file: str) -> None:
    """Their tables are float32; ours, in float64, stay within the tolerance of the recording's own arithmetic."""
    found = recording(golden, file, torch.float64)
    steps = found.run()
    check_times(found)
    check_states(found, steps, found.tolerance)
    check_predictions(found, steps)
    assert largest((steps[-1][0] + 1) / 2, found.arrays["final_f64"]) <= found.tolerance
    assert not found.arrays.unused()


@pytest.mark.parametrize("file", files(OTHERS))
def test_golden_sampling_with_the_recorded_tables(golden: Path, file: str) -> None:
    found = recording(golden, file, torch.float64, float32_tables=True)
    final = (found.run()[-1][0] + 1) / 2
    # Measured: 1.6e-7 with the index as clock; 1.9e-5 with 1000 abar and 1000 bbar, which our clock rounds to float32.
    assert largest(final, found.arrays["final_f64"]) < (3e-5 if found.family.plane else 5e-7)


@pytest.mark.parametrize("file", [CLOSED_FORMS])
def test_golden_closed_forms(golden: Path, file: str) -> None:
    arrays, path = Arrays(golden / file), PowerPath()
    for i, t in enumerate(arrays["t"].tolist()):
        x_0, x_in, res, eps = (arrays[key][i] for key in ("x_start", "x_input", "x_res", "noise"))
        now, then = path.index(t), path.index(t - 1) if t else CLEAN
        found = closed_forms(mix(x_0, res, eps, now), Prediction(x_0, res, eps), x_in, now, then)
        for key, value in found.items():
            # Measured: 2.4e-7, in the recording's float32. At t = 999 x_0 from eps is all round-off, yet the same.
            assert largest(value, arrays[key][i]) < 1e-6, (t, key)
    check_model_predictions(golden, arrays)
    assert not arrays.unused()


def closed_forms(x_t: Tensor, true: Prediction, x_in: Tensor, now: Node, then: Node) -> dict[str, Tensor]:
    """Return what the authors' closed forms give, by their names."""
    k = residual(now, then)
    variance = torch.tensor(then.bbar**2 - (k * now.bbar) ** 2).clamp_min(0)
    return {
        "q_sample": x_t,
        "predict_noise_from_res": eps_from_res(true.res, x_t, x_in, now),
        "predict_start_from_xinput_noise": x_0_from_eps(true.eps, x_t, x_in, now, FLOOR),
        "predict_start_from_res_noise": from_res_eps(true.res, true.eps, x_t, now).x_0,
        "q_posterior_from_res_noise": transition(x_t, true, now, then, k, anchor=anchor_x_t),
        "q_posterior_mean": transition(x_t, true, now, then, k, anchor=anchor_x_0),
        "q_posterior_variance": variance,
        "q_posterior_log_variance": variance.clamp_min(1e-20).log(),
    }


def check_model_predictions(golden: Path, arrays: Arrays) -> None:
    """The decoded and clipped outputs of the two nets; ``clip0`` is without the clip."""
    rule, path = RULES["pred_res_noise"], PowerPath()
    net = net_of(golden, "sampling/weights_cond2", rule.part, torch.float64)
    for clipped, clip in ((1, rule.clip), (0, clip_none)):
        denoiser = NetworkDenoiser(net, row(rule, path, ("x_in",)))
        for i, t in enumerate(arrays["t"].tolist()):
            x_t, x_in = (arrays[key][i : i + 1].double() for key in ("q_sample", "x_input"))
            with torch.no_grad():
                raw = denoiser.outputs(x_t, x_in, path.index(t))
            decoded = rule.target.decode(raw, x_t, x_in, path.index(t), None)
            prediction = clip(decoded, x_t, x_in, path.index(t))
            for field, key in (("x_0", "x_start"), ("res", "res"), ("eps", "noise")):
                # Measured: 6e-6, the net's float32.
                name = f"model_predictions_clip{clipped}_pred_{key}"
                assert largest(getattr(prediction, field)[0], arrays[name][i]) < 5e-5, (t, name)


def test_golden_families_are_all_in_use() -> None:
    assert all(any(file.startswith(f"sampling/{prefix}") for file in FILES) for prefix in FAMILIES)
