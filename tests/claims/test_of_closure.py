"""C14: a run against the closure's prediction, on planted numbers; files and settings that fit."""

import json

import numpy as np
import pytest
import xarray as xr

from featpur_sim._ground.disk import ResultError
from featpur_sim.claims.claim import rows
from featpur_sim.claims.of_closure import CLOSURE, closure_cases, load_closure
from featpur_sim.runs.closure import FIELDS, require_closed, settings_digest
from featpur_sim.runs.config import ConfigError, dump, parse
from featpur_sim.runs.presets import sparse_regime, theorem

SEEDS = 3


@pytest.fixture
def config():
    return sparse_regime(d=16, k=3, seeds=SEEDS)


@pytest.fixture
def result(config):
    """Both phases measure the same: α .5 on the one carrier, κ/α .1, a tenth active, .9 and .6."""
    phases = ["clean", "adversarial"]
    both = ("seed", "phase")
    spread = 1 + 0.01 * np.arange(-1, 2)[:, None] * np.ones(2)
    accuracy = np.stack([0.9 * np.ones((3, 2)), 0.6 * spread], axis=-1)
    return xr.Dataset(
        {
            "kappa_over_alpha_mean": (both, 0.1 * spread),
            "active_fraction": (both, 0.1 * spread),
            "alpha": ((*both, "neuron"), -0.5 * spread[..., None] * np.array([1.0, 0.01])),
            "carrier": ((*both, "neuron"), np.broadcast_to([1, 0], (3, 2, 2))),
            "robust_accuracy": ((*both, "attack", "radius"), accuracy[:, :, None]),
            "status": ("seed", ["ok"] * SEEDS),
        },
        {
            "seed": [1, 2, 3],
            "phase": phases,
            "attack": ["dense mixture"],
            "relative_radius": ("radius", [0.0, 1.0]),
        },
        {"name": "planted", "test_samples": 10_000, "config": dump(config)},
    )


def predicted(config, **changes):
    values = dict.fromkeys(FIELDS, 1.0)
    values |= {
        "unfollowed": 0.1,
        "alpha": 0.5,
        "ratio": 0.1,
        "active": 0.1,
        "accuracy": 0.9,
        "dense_accuracy": 0.6,
    }
    lists = {name: [value] * SEEDS for name, value in (values | changes).items()}
    return [
        {"phase": phase, "step": step, "settings": settings_digest(config)} | lists
        for phase in ("clean", "adversarial")
        for step in (0, 100)
    ]


def test_what_is_predicted_is_supported(result, config):
    card = rows(closure_cases(result, predicted(config)))
    assert [row["verdict"] for row in card] == ["supported"] * 10
    assert {row["id"] for row in card} == {"C14"}
    assert "κ/α, mean over carriers after clean training (0.1) over" in card[0]["statement"]
    assert card[0]["measured"] == pytest.approx(1.0)
    assert closure_cases(result, []) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ratio", 0.13, "κ/α"),
        ("alpha", 0.4, "α, mean"),
        ("active", 0.07, "active"),
        ("accuracy", 0.85, "clean accuracy"),
        ("dense_accuracy", 0.65, "dense attack"),
    ],
)
def test_what_is_not_is_contradicted(result, config, name, value, words):
    card = rows(closure_cases(result, predicted(config, **{name: value})))
    wrong = [row for row in card if row["verdict"] == "contradicted"]
    assert len(wrong) == 2 and all(words in row["statement"] for row in wrong)


def test_a_closure_that_has_lost_its_neurons_predicts_nothing(result, config):
    """One seed is enough; what follows from a phase falls with it, not what was before."""
    closure = predicted(config)
    closure[1]["unfollowed"] = [0.1, 0.51, 0.1]
    card = rows(closure_cases(result, closure))
    assert {row["verdict"] for row in card} == {"outside the prediction's range"}
    closure = predicted(config)
    closure[-1]["unfollowed"] = [0.1, 0.51, 0.1]
    card = rows(closure_cases(result, closure))
    for row in card:
        outside = "after adversarial" in row["statement"]
        wanted = "outside the prediction's range" if outside else "supported"
        assert row["verdict"] == wanted, row["statement"]
        assert ("≤ 0.5 (here 0.51)" in row["rule"]) == outside
    assert len(card) == 10


def test_every_seed_is_held_against_its_own_start(result, config):
    """Seeds that the run lost are left out of the closure too."""
    result["status"][1] = "dead"
    closure = predicted(config)
    for row in closure:
        row["ratio"] = [0.099, 99.0, 0.101]
    card = rows(closure_cases(result, closure))
    assert card[0]["measured"] == pytest.approx(1.0, rel=1e-6)
    assert card[0]["seeds"].startswith("2 of 3")


def test_a_closure_of_other_settings_is_refused(result, config, tmp_path):
    path = tmp_path / CLOSURE
    path.write_text(json.dumps(predicted(config)), encoding="utf-8")
    assert load_closure(tmp_path, result) == predicted(config)
    path.write_text(json.dumps(predicted(sparse_regime(d=16, k=4))), encoding="utf-8")
    with pytest.raises(ResultError, match="is of other settings than the run beside it"):
        load_closure(tmp_path, result)
    assert load_closure(tmp_path / "empty", result) == []


def test_the_digest_is_of_what_the_closure_depends_on(tiny):
    same = parse(tiny(name="other", evaluation={"samples": 300}, records=9))
    assert settings_digest(same) == settings_digest(parse(tiny()))
    assert settings_digest(parse(tiny(seed=4))) != settings_digest(parse(tiny()))


def test_settings_outside_the_closure_are_named(tiny):
    with pytest.raises(ConfigError, match=r"problem\.wstar = 'uniform'"):
        require_closed(parse(tiny(problem={"wstar": "uniform", "wstar_range": [0.5, 1.0]})))
    with pytest.raises(ConfigError, match=r"clean\.bias\.monotone = true"):
        require_closed(sparse_regime(d=16, k=3, monotone=True))
    noise = {"smoothing": "sampled", "sigma_rho": 0.1}
    with pytest.raises(ConfigError, match=r"network\.smoothing = 'sampled': .* 'none' or 'closed'"):
        require_closed(parse(tiny(network=noise)))
    require_closed(theorem())
