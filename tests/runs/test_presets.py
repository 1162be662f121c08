"""The presets hold the settings of docs/theory.md §5.3 and §7.1 at every size."""

import math

import numpy as np
import pytest

from featpur_sim.runs.build import make_network, make_phases
from featpur_sim.runs.config import ConfigError, LinearRampConfig, PerNeuronConfig, TabulatedConfig
from featpur_sim.runs.experiment import check, seed_keys
from featpur_sim.runs.presets import PRESETS, dense_regime, sparse_regime, theorem
from featpur_sim.training.bias import Frozen

SIZES = [(64, 5), (100, 5), (128, 8), (196, 9), (256, 12)]


@pytest.mark.parametrize("make", [dense_regime, sparse_regime])
@pytest.mark.parametrize(("d", "k"), SIZES)
def test_what_both_regimes_share(make, d, k):
    config = make(d=d, k=k, seeds=7, seed=11)
    assert (config.seeds, config.seed) == (7, 11)
    assert config.name in PRESETS
    assert (config.problem.d, config.problem.k, config.problem.sigma_x) == (d, k, 0.3)
    assert (config.problem.law, config.problem.p_one, config.problem.wstar) == (
        "two-level",
        1.0,
        "signs",
    )
    assert config.network.neurons == 4 * d and config.network.smoothing == "none"
    assert config.adversarial.radius == pytest.approx(0.3 / math.sqrt(k), rel=1e-5)
    assert (config.adversarial.attack, config.adversarial.norm) == ("fgm", "l2")
    for phase in (config.clean, config.adversarial):
        assert (phase.batch, phase.learning_rate, phase.optimizer) == (512, 0.5, "sgd")
        assert phase.dataset_size is None
    check(config)


@pytest.mark.parametrize(("d", "k"), SIZES)
def test_dense_regime_is_the_table_of_section_5_3(d, k):
    config = dense_regime(d=d, k=k)
    assert config.network.sigma_0 == 0.01
    assert (config.clean.steps, config.adversarial.steps) == (3000, 3000)
    assert config.clean.weight_decay == config.adversarial.weight_decay == 1e-4
    bias = config.clean.bias
    assert isinstance(bias, LinearRampConfig)
    assert (bias.schedule, bias.start, bias.fraction) == ("linear-ramp", 0.0, 0.5)
    assert bias.stop == pytest.approx(0.02 * 196 / d, rel=1e-5)
    # The table's own b_f, rounded as printed there.
    table = {196: 0.02, 64: 0.061, 128: 0.031, 256: 0.015}
    if d in table:
        assert bias.stop == pytest.approx(table[d], abs=5e-4)


@pytest.mark.parametrize(("d", "k"), SIZES)
def test_sparse_regime_is_section_7_1(d, k):
    config = sparse_regime(d=d, k=k)
    for phase in (config.clean, config.adversarial):
        assert phase.weight_decay * d == pytest.approx(0.0128, rel=1e-5)
    bias = config.clean.bias
    assert isinstance(bias, PerNeuronConfig)
    assert (bias.schedule, bias.start, bias.begin, bias.end) == ("per-neuron", 1.1, 1.2, 2.0)
    assert bias.stop == pytest.approx(0.38 / math.sqrt(k), rel=1e-5)
    assert not bias.monotone and bias.ceiling == math.inf
    # Natural time t′ = η·steps/d of each phase.
    assert config.clean.learning_rate * config.clean.steps / d == pytest.approx(6.25, rel=0.01)
    assert config.adversarial.learning_rate * config.adversarial.steps / d == pytest.approx(
        4.6875, rel=0.01
    )


@pytest.mark.parametrize("k", [4, 9])
def test_the_monotone_variant_has_a_ceiling(k):
    bias = sparse_regime(k=k, monotone=True).clean.bias
    assert isinstance(bias, PerNeuronConfig)
    assert bias.monotone and bias.ceiling == pytest.approx(0.283 / math.sqrt(k), rel=1e-5)


@pytest.mark.parametrize(("d", "k"), [(512, 12), (1024, 16)])
def test_the_theorem_has_no_departure_from_the_paper(d, k):
    config = theorem(d=d, k=k, seed=5)
    check(config)
    assert config.name in PRESETS and config.seed == 5
    bias = config.clean.bias
    assert isinstance(bias, TabulatedConfig)
    # It starts beyond √(2 log d) σ₀, the largest of d weights, and never falls.
    assert bias.values[0] > math.sqrt(2 * math.log(d)) * config.network.sigma_0
    assert (np.diff(bias.values) >= 0).all() and bias.values[-1] < 1 / math.sqrt(k)
    network = make_network(config, seed_keys(config)[0][0])
    assert network.bias.ndim == 0 and network.smoothing == "closed"
    assert float(network.sigma_rho) == pytest.approx(config.network.sigma_0 / 2)
    for phase in (config.clean, config.adversarial):
        assert phase.optimizer == "sgd" and phase.dataset_size is None
        assert phase.learning_rate * phase.steps / d == pytest.approx(1.5, rel=0.01)
        assert phase.weight_decay * d == pytest.approx(0.0128, rel=1e-5)
    assert isinstance(make_phases(config)[1].bias, Frozen)
    assert (config.adversarial.attack, config.adversarial.norm) == ("fgm", "l2")
    assert config.adversarial.radius == pytest.approx(0.3 / math.sqrt(k), rel=1e-5)


@pytest.mark.parametrize("make", [dense_regime, sparse_regime, theorem])
def test_a_size_out_of_range_is_one_message(make, unchecked):
    with pytest.raises(ConfigError, match=r"problem\.k = 70 exceeds problem\.d = 64"):
        make(d=64, k=70)
    with pytest.raises(ConfigError, match="seeds = 0"):
        make(seeds=0)
