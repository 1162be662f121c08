"""The theorem's exponents from the reduced dynamics at d = 10⁴ … 10⁹ (docs/dynamics.md).

Both phases are integrated at k = d^a with b = ν_f α/√k, and each quantity is fitted as a power of d.
The interval has two parts: the scatter of the points about the line, a property of the model at
finite d, and the sampling error, from independent replicates of the nodes.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from featpur_sim import theory
from featpur_sim.dynamics import Order, Setting, accuracy, radius_at
from featpur_sim.dynamics_run import Schedule, integrate_phase
from featpur_sim.lattice import Nodes, double_precision, sampled_nodes

DIMENSIONS = tuple(10**i for i in range(4, 10))

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the settings of a run scale with d. Defaults: docs/theory.md §7.

    Attributes:
        sigma_x: noise.
        p_one: expected number of coordinates of size 1.
        copies: r, neurons per feature.
        decay: λd.
        bias_fraction: ν_f in b = ν_f α/√k.
        radius: ε in the training radius τ = ε k^{-1/2-c}.
        radius_exponent: c.
        clean_time: length of the clean phase in t′ = η·step/d.
        adversarial_time: length of the adversarial phase.
        alpha: α at the start, with C = 0 and ρ = 0.
    """

    sigma_x: float = 0.3
    p_one: float = 1.0
    copies: float = 4.0
    decay: float = 0.0128
    bias_fraction: float = 0.5
    radius: float = 0.25
    radius_exponent: float = 0.05
    clean_time: float = 12.0
    adversarial_time: float = 20.0
    alpha: float = 0.03


class Point(NamedTuple):
    """What both phases end in, at one (d, k); arrays [R] over replicates."""

    clean_ratio: np.ndarray
    """c/α"""
    clean_accuracy: np.ndarray
    dense_radius: np.ndarray
    """at which the dense attack halves the clean network's accuracy"""
    dense_accuracy: np.ndarray
    """of the clean network, dense attack at the training radius"""
    adversarial_ratio: np.ndarray
    purified_radius: np.ndarray
    """at which FGM halves the purified network's accuracy"""
    pure_radius: np.ndarray
    """the same of the clean network with c = 0, which has the same α and b"""
    arrived: np.ndarray


def solve(d: int, k: float, scaling: Scaling, nodes: Nodes) -> Point:
    """Both phases at one size.

    Args:
        d: dimension.
        k: sparsity.
        scaling: the other settings.
        nodes: of this (d, k), with a leading axis of replicates.
    """
    with double_precision():
        setting = Setting(
            *(jnp.asarray(float(v)) for v in (d, k, scaling.sigma_x, scaling.copies, scaling.decay))
            , jnp.asarray(0.0)
        )
        tau = scaling.radius * k ** (-0.5 - scaling.radius_exponent)
        fraction = scaling.bias_fraction / k**0.5
        return Point(
            *(
                np.asarray(v)
                for v in _solve(
                    jax.tree.map(jnp.asarray, nodes), setting, tau, fraction, scaling.alpha,
                    scaling.clean_time, scaling.adversarial_time,
                )
            )
        )  # fmt: skip


@functools.partial(jax.jit)
def _solve(nodes, setting, tau, fraction, alpha, clean_time, adversarial_time):
    def constant(value, relative):
        ends = jnp.asarray([0.0, 1.0])
        no = jnp.asarray(0.0)
        return Schedule(ends, jnp.ones(2) * value, no + relative, no, no + jnp.inf)

    def one(sample):
        zero = jnp.asarray(0.0)
        start = Order(alpha + zero, zero, zero)
        times = jnp.stack([zero, zero + clean_time])
        clean = integrate_phase(
            start, zero, constant(fraction, 1.0), 0.0, times, sample, setting
        )
        trained, b = jax.tree.map(lambda v: v[-1], (clean.order, clean.bias))
        times = jnp.stack([zero, zero + adversarial_time])
        purified = integrate_phase(
            trained, b, constant(b, 0.0), tau, times, sample, setting, attack="fgm"
        )
        final = jax.tree.map(lambda v: v[-1], purified.order)
        pure = trained._replace(dense=zero)
        return Point(
            trained.dense / setting.d / trained.alpha,
            accuracy(trained, b, 0.0, sample, setting),
            radius_at(0.5, trained, b, sample, setting, "dense"),
            accuracy(trained, b, tau, sample, setting, "dense"),
            final.dense / setting.d / final.alpha,
            radius_at(0.5, final, b, sample, setting, "fgm"),
            radius_at(0.5, pure, b, sample, setting, "fgm"),
            clean.arrived & purified.arrived,
        )

    return jax.lax.map(one, nodes)
