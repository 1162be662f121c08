"""The one table of attacks by name, and that everything which names an attack reads it."""

from typing import get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from featpur_sim import FGM, PGD, SparseCoding, pure_network
from featpur_sim.attacks.apgd import APGD
from featpur_sim.attacks.gradient import DenseMixture, RandomNoise, Transfer
from featpur_sim.attacks.kinds import AttackKind, AttackName
from featpur_sim.attacks.protocol import PROTOCOLS, Stage
from featpur_sim.runs import evaluation
from featpur_sim.runs.build import make_phases, training_attack
from featpur_sim.runs.config import parse
from featpur_sim.sweeps import measurements

PROBLEM = SparseCoding(16, 3, 0.3)
DIRECTION = PROBLEM.dense_direction()
SOURCE = pure_network(PROBLEM.wstar, 0.2)


def pgd(**settings):
    return PGD(0.2, "linf", steps=6, restarts=2, step_size=0.7, smoothing=0.4, **settings)


EXPECTED = {
    "random noise": (lambda: RandomNoise(0.2, "linf"), 0),
    "dense mixture": (lambda: DenseMixture.of(PROBLEM, 0.2, "linf"), 0),
    "FGM": (lambda: FGM(0.2, "linf"), 1),
    "PGD": (pgd, 12),
    "PGD on support": (lambda: pgd(on_support=True), 12),
    "APGD": (lambda: APGD(0.2, "linf", steps=6, restarts=2), 12),
    "transfer": (lambda: Transfer(SOURCE, pgd()), 12),
}


@pytest.mark.parametrize("name", get_args(AttackName))
def test_a_name_means_one_attack(name):
    kind = AttackKind(name, "linf", steps=6, restarts=2, step_size=0.7, smoothing=0.4)
    expected, gradients = EXPECTED[name]
    assert eqx.tree_equal(kind(0.2, direction=DIRECTION, source=SOURCE), expected())
    assert kind.gradients == gradients


def test_the_radius_is_data():
    kind = AttackKind("PGD", steps=3)
    several = eqx.filter_vmap(kind)(jnp.array([0.1, 0.2]))
    assert several.ball.radius.tolist() == pytest.approx([0.1, 0.2])
    assert len({kind, AttackKind("PGD", steps=3), AttackKind("PGD", steps=4)}) == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: AttackKind("pgd"),  # pyright: ignore[reportArgumentType]
            r"no attack 'pgd': take one of random noise, .*, PGD,",
        ),
        (lambda: AttackKind("dense mixture")(0.1), r"needs direction=problem\.dense_direction\(\)"),
        (lambda: AttackKind("transfer")(0.1), "needs source"),
        (lambda: AttackKind("PGD", steps=0)(0.1), "steps"),
    ],
)
def test_what_is_wrong_is_named(make, words, unchecked):
    with pytest.raises(ValueError, match=words):
        make()


def test_runs_sweeps_protocols_and_training_speak_of_the_same_attacks(tiny):
    names = set(get_args(AttackName))
    stages = {stage.method for protocol in PROTOCOLS.values() for stage in protocol.stages}
    assert stages | {*evaluation.ATTACKS, *measurements.ATTACKS} == names
    assert set(measurements.CRITICAL_ATTACKS) <= set(measurements.ATTACKS)
    words: dict[str, AttackName] = {"fgm": "FGM", "pgd": "PGD", "random-noise": "random noise"}
    for word, name in words.items():
        config = parse(tiny(adversarial={"attack": word, "pgd_steps": 7, "norm": "linf"}))
        kind = training_attack(config.adversarial)
        assert kind == AttackKind(name, "linf", steps=7)
        assert eqx.tree_equal(make_phases(config)[1].attack, kind(0.17))


def test_a_stage_without_a_direction_leaves_the_dense_mixture_out():
    stage = Stage("dense mixture")
    assert stage.attack(0.1, "l2", None) is None
    assert eqx.tree_equal(stage.attack(0.1, "l2", DIRECTION), DenseMixture.of(PROBLEM, 0.1))


def test_attacks_of_a_run_are_made_for_every_seed(tiny):
    config = parse(tiny(evaluation={"pgd_steps": 4, "pgd_restarts": 3}))
    family = evaluation.attack_family(config, PROBLEM)
    assert {name: (kind.steps, kind.restarts) for name, kind in family.items()} == {
        name: (4, 3 if name == "PGD" else 1) for name in evaluation.ATTACKS
    }
    sources = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), SOURCE)
    both = eqx.filter_vmap(lambda s: family["transfer"](0.1, source=s))(sources)
    assert both.source.weights.shape == (2, 16, 16)
