"""The competitors of claim C8, each trained as well as its class allows (docs/theory.md §6).

A competitor is a class of models, a way to train it, and the member that came out. Classes whose
best member is found by a non-convex search get several starts; tuning points pick among them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.types import PRNGKey
from featpur_sim.attacks.gradient import PGD
from featpur_sim.data.sparse_coding import SparseCoding
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.linear import train_linear
from featpur_sim.models.polynomial import PolynomialClassifier, Term
from featpur_sim.models.tangent_kernel import NTKClassifier, gate_bias, random_gates
from featpur_sim.models.tangent_kernel_limit import NTKLimit
from featpur_sim.training.low_complexity import best_member, fit

LINEAR, AFFINE, NTK_LIMIT = "linear", "linear with intercept", "tangent kernel, infinite width"
DEGREES, WIDTHS = (2, 3, 5, 7), (4, 16)


def polynomial_class(degree: int) -> str:
    """Name of a class of polynomials."""
    return f"polynomials of degree {degree}"


def ntk_class(width: int) -> str:
    """Name of a class of tangent kernels with ``width``·d neurons."""
    return f"tangent kernel, {width}d neurons"


class Competitor(NamedTuple):
    """One entry: its class, how it is trained, and the training: key → model."""

    model_class: str
    training: str
    train: Callable[[PRNGKey], Classifier]


class Adversary(NamedTuple):
    """What the competitors are trained against."""

    radius: float
    norm: Norm

    def pgd(self, steps: int, step_size: float | None = None, smoothing: float = 0.0) -> PGD:
        """Descents of that many steps."""
        return PGD(self.radius, self.norm, steps=steps, step_size=step_size, smoothing=smoothing)

    def gain(self, d: int) -> float:
        """What it takes off y⟨w*, x⟩: radius·‖w*‖, in the dual norm."""
        return self.radius * (math.sqrt(d) if self.norm == "l2" else d)


def competitors(
    problem: SparseCoding, radius: float, *, norm: Norm = "l2", steps: int = 300
) -> list[Competitor]:
    """Every competitor, untrained; with M ≠ I the linear ones alone.

    The other families are symmetric in the features, and so is a box only where M = I.

    Args:
        problem: the data, with w* ∈ {±1}^d.
        radius: of the training attack, > 0.
        norm: of the training attack.
        steps: gradient steps of each stage of training.

    Raises:
        ValueError: the radius is not above 0, or steps is no whole number ≥ 1.

    >>> [c.model_class for c in competitors(SparseCoding(d=16, k=3, sigma_x=0.3), 0.1)][:3]
    ['linear', 'linear with intercept', 'polynomials of degree 2']
    """
    number("radius", radius, above=0)
    steps = count("steps", steps)
    exact = "robust 0-1 loss, exact"

    def linear(intercept: bool) -> Callable[[PRNGKey], Classifier]:
        return lambda key: train_linear(
            problem, radius, norm=norm, intercept=intercept, key=key, steps=2 * steps
        )

    league = [
        Competitor(LINEAR, exact, linear(False)),
        Competitor(AFFINE, exact, linear(True)),
    ]
    if problem.M is not None:
        return league
    against = Adversary(radius, norm)
    league += [
        Competitor(
            polynomial_class(q),
            "adversarial, best of several starts",
            lambda key, q=q: _polynomial(problem, against, q, steps, key),
        )
        for q in DEGREES
    ]
    for width in WIDTHS:
        for training in ("clean", "adversarial, from zero", "adversarial, from the witness"):
            league.append(
                Competitor(
                    ntk_class(width),
                    training,
                    lambda key, w=width, t=training: _ntk(problem, against, w, t, steps, key),
                )
            )
    league.append(
        Competitor(
            NTK_LIMIT,
            "adversarial, from the witness, six members",
            lambda key: _limit(problem, against, steps, key),
        )
    )
    return league


def _polynomial(problem, against, degree, steps, key) -> PolynomialClassifier:
    start_key, fit_key, tune_key = jax.random.split(key, 3)
    members = {
        name: PolynomialClassifier.start(problem, degree, weights, key=start_key)
        for name, weights in _starts(problem, against, degree).items()
    }
    return _train_coefficients(members, problem, against, steps, fit_key, tune_key)


def _starts(problem: SparseCoding, against: Adversary, degree: int) -> dict[str, dict[Term, float]]:
    if degree == 2:
        # The odd part of a quadratic is linear; a constant is worth what an intercept is (L3).
        shift = 0.9 * against.gain(problem.d)
        return {"w*": {(1,): 1.0}, "w* with intercept": {(1,): 1.0, (): shift}}
    k = float(problem.k)
    starts: dict[str, dict[Term, float]] = {"cubic": {(3,): 1.0}}
    if degree >= 7:
        starts["septic"] = {(3,): k + 2, (5,): -(2 * k + 1), (7,): k}
    return starts


def _limit(problem, against, steps, key) -> NTKLimit:
    start_key, fit_key, tune_key = jax.random.split(key, 3)
    bias = gate_bias(problem.d, float(problem.k))
    members = {"witness": NTKLimit.witness(problem, bias, key=start_key)}
    return _train_coefficients(members, problem, against, steps, fit_key, tune_key)


def _train_coefficients(members, problem, against, steps, fit_key, tune_key):
    """Logistic loss, then ramp on doubled outputs, from each start; the best of all on the way."""
    attack = against.pgd(7, 0.7)

    def where(model):
        return model.coefficients

    for name, start in list(members.items()):
        convex = fit(start, where, problem, attack, key=fit_key, steps=steps)
        doubled = eqx.tree_at(where, convex, 2 * where(convex))
        members[f"{name}, logistic"] = convex
        members[f"{name}, ramp"] = fit(
            doubled, where, problem, attack, key=fit_key, steps=steps, surrogate="ramp"
        )
    return best_member(members, problem, against.pgd(30), key=tune_key)[1]


def _ntk(problem, against, width, training, steps, key) -> NTKClassifier:
    gate_key, fit_key, tune_key = jax.random.split(key, 3)
    gates = random_gates(problem.d, width * problem.d, key=gate_key)
    bias = gate_bias(problem.d, float(problem.k))
    # The plain gradient misses the jumps of the gates.
    attack = against.pgd(5, 0.7, 0.4)

    def where(model):
        return model.v

    zero = NTKClassifier(jnp.zeros_like(gates), gates, bias)
    if training != "adversarial, from the witness":
        met = None if training == "clean" else attack
        return fit(zero, where, problem, met, key=fit_key, steps=2 * steps, learning_rate=0.01)
    witness = NTKClassifier.witness(problem, gates, bias)
    size = jnp.std(witness(problem.sample(tune_key, 1024).x))
    witness = eqx.tree_at(where, witness, 2 * where(witness) / size)
    trained = fit(
        witness, where, problem, attack, key=fit_key, steps=2 * steps, learning_rate=0.003
    )
    judge = against.pgd(30, smoothing=0.8)
    members = {"witness": witness, "trained": trained}
    return best_member(members, problem, judge, key=tune_key)[1]
