"""The contract of `featpur_sim.data.laws.HiddenLaw`: the law of one hidden magnitude."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.expected import expect
from featpur_sim._ground.switches import steady
from featpur_sim.data.laws import HiddenLaw
from featpur_sim.testing._contract import Contract
from featpur_sim.training.loop import replicate

# Midpoints of equal cells of [0, 1), exact in float32.
_CELLS = 2**20
_EXACT = "Give the exact expectation over the uniform variable, as a function of k and D"
_ENTRY = "magnitude maps each uniform number to one magnitude, in the shape that it gets"


@steady
def check_law(law: Any, k: float = 9.0, D: int = 64, *, bounded: bool = True) -> None:
    """Check a law of the hidden magnitudes, at (k, D) and at (1.5 k, 2 D).

    That magnitudes are finite, ≥ 0, at most 1, and each a function of its own uniform number alone;
    that ``second_moment`` and ``nonzero_rate`` are the integrals of what ``magnitude`` gives; the
    same when traced, with k as data.

    The integrals are midpoint sums over N = 2²⁰ cells. A cell's error is at most the variation of
    the function in it over N, so the sum's is at most V/N, V the total variation; the tolerance
    is 2V/N with V as the sum's own points see it, and 10⁻⁵ of the value for float32. [D]

    Args:
        law: a `HiddenLaw`.
        k: sparsity to check at.
        D: number of features.
        bounded: False for a law that leaves [0, 1] on purpose, as `GaussianTwin` does.

    Raises:
        ConfigError: the contract is broken.

    >>> from featpur_sim.data.laws import GaussianTwin, TwoLevel
    >>> check_law(TwoLevel(p_one=2.0))
    >>> check_law(GaussianTwin(), bounded=False)
    """
    expect("law", law, HiddenLaw, "a HiddenLaw, TwoLevel() say")
    of = Contract("law", law)
    least = number("k", k, least=max(1.0, law.smallest_k))
    _check_at(of, law, float(least), count("D", D), bounded)
    _check_at(of, law, 1.5 * float(least), 2 * count("D", D), bounded)


def _check_at(of: Contract, law: HiddenLaw, k: float, D: int, bounded: bool) -> None:
    uniform = (np.arange(_CELLS, dtype=np.float32) + np.float32(0.5)) / np.float32(_CELLS)

    def look(u: Any, k: Any) -> tuple[Any, Any, Any]:
        return law.magnitude(u, k, D), law.second_moment(k, D), law.nonzero_rate(k, D)

    given, level = jnp.asarray(uniform), jnp.float32(k)
    at = f"at k = {k:g}, D = {D}"
    found, second, rate = of.call(f"a look at it {at}", look, given, level, fix=_ENTRY)
    size = of.array(f"magnitude {at}", found, uniform.shape, _ENTRY).astype(float)
    of.require(size.min() >= 0, f"magnitude falls to {size.min():.3g} {at}", "Give |z_j|, ≥ 0")
    of.require(
        not bounded or size.max() <= 1 + 1e-6,
        f"magnitude reaches {size.max():.3g} {at}",
        "Keep it in [0, 1], or say bounded=False if the law leaves that on purpose",
    )
    table = of.call("magnitude of a table", law.magnitude, given[:96].reshape(8, 12), level, D,
                    fix=_ENTRY)  # fmt: skip
    of.require(
        np.shape(table) == (8, 12) and np.allclose(np.ravel(table), size[:96], rtol=1e-5),
        f"magnitude of the same numbers as a table of 8 × 12 is another {at}",
        _ENTRY,
    )
    again = np.asarray(law.magnitude(given, level, D))
    of.require(np.array_equal(again, found), f"magnitude differs from call to call {at}", _ENTRY)
    for name, value, entries in (
        ("second_moment", second, size**2),
        ("nonzero_rate", rate, size > 0),
    ):
        of.require(np.shape(value) == (), f"{name} has shape {np.shape(value)}", _EXACT)
        integral, room = _integral(entries.astype(float))
        of.require(
            abs(float(value) - integral) <= room,
            f"{name} is {float(value):.6g} {at}, but magnitude integrates to {integral:.6g} "
            f"(± {room:.1g})",
            _EXACT,
        )
    _check_traced(of, law, uniform, k, D)


def _integral(entries: np.ndarray) -> tuple[float, float]:
    """The midpoint sum of a function and what it may be wrong by."""
    integral, variation = float(entries.mean()), float(np.abs(np.diff(entries)).sum())
    return integral, 2 * (variation + 1e-3) / len(entries) + 1e-5 * integral


def _check_traced(of: Contract, law: HiddenLaw, uniform: np.ndarray, k: float, D: int) -> None:
    """Two laws at once, k and their parameters as data."""

    @eqx.filter_jit
    def both(laws: HiddenLaw, ks: jax.Array, u: jax.Array) -> Any:
        def one(law: HiddenLaw, k: jax.Array) -> Any:
            size = law.magnitude(u, k, D)
            moments = law.second_moment(k, D), law.nonzero_rate(k, D)
            return [jnp.asarray(v, jnp.float32) for v in (jnp.mean(size), *moments)]

        return eqx.filter_vmap(one)(laws, ks)

    def alone(k: float) -> list[float]:
        size = law.magnitude(jnp.asarray(uniform), jnp.float32(k), D)
        rest = law.second_moment(jnp.float32(k), D), law.nonzero_rate(jnp.float32(k), D)
        return [float(jnp.mean(size)), *map(float, rest)]

    ks = jnp.array([k, 1.1 * k], jnp.float32)
    found = of.call(
        "the law, traced", both, replicate(law, 2), ks, jnp.asarray(uniform), fix=_EXACT
    )
    expected = np.array([alone(k), alone(1.1 * k)]).T
    of.require(
        np.allclose(np.array(found), expected, rtol=1e-4, atol=1e-6),
        "the law gives other numbers when k is traced",
        "Compute with the k that is given, by jax.numpy, and keep nothing between calls",
    )
