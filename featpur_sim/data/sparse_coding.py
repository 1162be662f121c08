"""Sparse-coding data x = Mz + ξ with labels y = sign⟨w*, z⟩ (docs/theory.md §1)."""

from operator import attrgetter
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import count, is_concrete, number
from featpur_sim._ground.expected import expect
from featpur_sim._ground.show import line, runs, shown
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, PRNGKey, Scalar
from featpur_sim.data import dictionaries
from featpur_sim.data._random_words import (
    normal_from_words,
    random_words,
    sign_and_uniform_from_words,
)
from featpur_sim.data.laws import HiddenLaw, TwoLevel

# Rounding of Σ w*_j z_j in float32 stays below this many units in the last place of Σ|w*_j z_j|;
# the smallest non-zero |⟨w*, z⟩| of the two-level law is larger by orders of magnitude.
_TIE_ULPS = 16

DictionaryName = Literal["identity", "haar", "hadamard", "dct", "incoherent"]
LabelVector = Literal["signs"] | tuple[float, float] | Array | np.ndarray


class Batch(NamedTuple):
    """Samples. ``y`` is ±1, and 0 where ⟨w*, z⟩ = 0: such a sample has no label."""

    x: Float[Array, "*n d"]
    y: Float[Array, "*n"]
    z: Float[Array, "*n D"]

    @property
    def labelled(self) -> Bool[Array, "*n"]:
        """True where the sample has a label; the others are excluded from every average."""
        return self.y != 0


class SparseCoding(eqx.Module):
    """The data distribution.

    Args:
        d: input dimension.
        k: sparsity, ‖z‖₀ ≈ k; any real in [1, D - p₁].
        sigma_x: noise level, ξ ~ N(0, σ_x²/d · I).
        D: number of features; defaults to d (d ≤ D).
        law: law of the hidden magnitudes; the two-level law with p₁ = 1 by default.
        wstar: ``"signs"`` for random ±1, a pair ``(a, b)`` for magnitudes uniform on [a, b] with
            random signs, or an array [D].
        dictionary: ``"identity"``, ``"haar"``, ``"hadamard"``, ``"dct"``, ``"incoherent"`` or an
            array [d, D] with unit columns.
        key: draws w* and a random dictionary; nothing else depends on it.

    Raises:
        ValueError: a parameter is out of range; the message names it, its value and the rule.

    >>> import jax
    >>> problem = SparseCoding(d=64, k=5, sigma_x=0.3, key=jax.random.key(0))
    >>> batch = problem.sample(jax.random.key(1), 1000)
    >>> batch.x.shape, batch.y.shape, batch.z.shape
    ((1000, 64), (1000,), (1000, 64))
    >>> problem
    SparseCoding(d=64, k=5, two-level, σ_x=0.3)
    """

    k: Scalar
    sigma_x: Scalar
    wstar: Float[Array, " D"]
    law: HiddenLaw
    M: Float[Array, "d D"] | None
    d: int = eqx.field(static=True)
    D: int = eqx.field(static=True)
    unitary: bool = eqx.field(static=True)

    @steady
    def __init__(
        self,
        d: int,
        k: float,
        sigma_x: float,
        *,
        D: int | None = None,
        law: HiddenLaw | None = None,
        wstar: LabelVector = "signs",
        dictionary: DictionaryName | Array | np.ndarray = "identity",
        key: PRNGKey | None = None,
    ):
        label_key, dictionary_key = jax.random.split(jax.random.key(0) if key is None else key)
        self.d = count("d", d, least=2)
        if not isinstance(dictionary, str):
            dictionary = dictionaries.check(jnp.asarray(dictionary))
            D = dictionary.shape[1] if D is None else D
            if dictionary.shape != (self.d, D):
                raise ValueError(
                    f"dictionary must have shape ({self.d}, {D}), got {dictionary.shape}."
                )
        self.D = self.d if D is None else count("D", D, least=2)
        if self.D < self.d:
            raise ValueError(f"D must be ≥ d, got D={D} with d={d}.")
        self.law = TwoLevel() if law is None else law
        expect("law", self.law, HiddenLaw, "a HiddenLaw, TwoLevel() say or one of your own")
        # Plain numbers in a law are parameters like any others: arrays, one for each run.
        self.law = jax.tree.map(_as_array, self.law)
        self.k = number("k", k)
        self.sigma_x = number("sigma_x", sigma_x, least=0)
        if not 1 <= k <= self.D:
            raise ValueError(
                f"k must lie in [1, D], got k={k} with D={self.D}: k is the expected number of "
                "active features."
            )
        if k < self.law.smallest_k:
            raise ValueError(
                f"k={k} is too small for {type(self.law).__name__}, which needs "
                f"k ≥ {self.law.smallest_k:g}: raise k or take another law."
            )
        if float(self.law.nonzero_rate(self.k, self.D)) > 1 + 1e-6:
            raise ValueError(
                f"the law asks for Pr[z_j ≠ 0] = {float(self.law.nonzero_rate(self.k, self.D)):.4g}"
                f" > 1 at k={k}, D={self.D}: lower k or p_one, or raise D."
            )
        self.M = _make_dictionary(dictionary, self.d, self.D, dictionary_key)
        self.unitary = self.M is None or dictionaries.is_unitary(self.M)
        self.wstar = _make_wstar(wstar, self.D, label_key)

    def __repr__(self) -> str:
        wide = [] if self.D == self.d else [f"D={self.D}"]
        law = getattr(self.law, "label", None) or type(self.law).__name__
        sizes = [f"d={self.d}", *wide, f"k={shown(self.k)}"]
        noise = f"σ_x={shown(self.sigma_x)}"
        return line(type(self).__name__, *sizes, law, noise, *runs(self.k))

    @steady
    def sample(self, key: PRNGKey, n: int, *, start: Array | int = 0) -> Batch:
        """Rows ``start .. start + n`` of the endless sample that ``key`` names.

        Row r depends on (key, r) alone, so ``sample(key, a + b)`` is ``sample(key, a)`` followed by
        ``sample(key, b, start=a)``. Costs O(n·d) for M = I and one n×D×d product otherwise.

        Args:
            key: PRNG key.
            n: number of rows (static).
            start: first row.

        Returns:
            A `Batch` of float32 arrays; ties ⟨w*, z⟩ = 0 carry y = 0.

        Raises:
            ValueError: ``n`` or ``start`` is no whole number ≥ 0.
        """
        n = count("n", n, 0)
        start = count("start", start, 0) if is_concrete(start) else start
        noise_words, hidden_words = random_words(key, start, n, self.D)
        noise = normal_from_words(noise_words[:, : self.d])
        sign, uniform = sign_and_uniform_from_words(hidden_words)
        z = sign * self.law.magnitude(uniform, self.k, self.D)
        terms = z * self.wstar
        score = jnp.sum(terms, axis=-1)
        rounding = _TIE_ULPS * np.finfo(np.float32).eps * jnp.sum(jnp.abs(terms), axis=-1)
        tie = jnp.abs(score) <= rounding
        y = jnp.where(tie, 0.0, jnp.sign(score))
        return Batch(self.features(z) + self.sigma_x / np.sqrt(self.d) * noise, y, z)

    @steady
    def sample_labelled(self, key: PRNGKey, n: int) -> Batch:
        """Exactly n labelled samples: the first n labelled rows of the endless sample.

        Runs on the host (the number of rows drawn is random); used for fixed training sets.

        Raises:
            ValueError: ``n`` is no whole number ≥ 1, or almost no sample has a label.
        """
        n = count("n", n)
        found: list[Batch] = []
        have, start, block = 0, 0, max(256, n)
        while have < n:
            batch = self.sample(key, block, start=start)
            keep = np.flatnonzero(np.asarray(batch.labelled))
            found.append(Batch(*(leaf[keep] for leaf in batch)))
            have, start = have + len(keep), start + block
            if start > 100 * block:
                raise ValueError("almost every sample is a tie ⟨w*, z⟩ = 0: no data set to draw.")
        return Batch(*(jnp.concatenate(leaves)[:n] for leaves in zip(*found, strict=True)))

    @steady
    def features(self, z: Float[Array, "*n D"]) -> Float[Array, "*n d"]:
        """Mz."""
        return z if self.M is None else z @ self.M.T

    @steady
    def coordinates(self, weights: Float[Array, "*m d"]) -> Float[Array, "*m D"]:
        """C = WM: every weight vector's inner product with each feature (docs/theory.md §4).

        Raises:
            ValueError: the vectors have another length than the inputs.
        """
        self.require_dimension(weights)
        return weights if self.M is None else weights @ self.M

    def require_dimension(self, weights: Float[Array, "*m d"]) -> None:
        """Refuse vectors, a network's weights for example, of another length than the inputs.

        Raises:
            ValueError: their length is not d.
        """
        if weights.shape[-1] != self.d:
            raise ValueError(
                f"weights of length {weights.shape[-1]} with a problem whose inputs have d = "
                f"{self.d}: give a network of that d, such as initialise(d={self.d}, …)."
            )

    def dense_direction(self) -> Float[Array, " d"]:
        """Mw*: the dense mixture of all features, up to scale."""
        return self.features(self.wstar)

    def gauge(self) -> "SparseCoding":
        """The same problem in the coordinates x → Mᵀx, where M = I.

        Exact for everything in ℓ2 when M is unitary (docs/theory.md §1, [D]).

        Raises:
            ValueError: M is not unitary.
        """
        if not self.unitary:
            raise ValueError("gauge() needs a unitary dictionary; this one is not.")
        return eqx.tree_at(attrgetter("M"), self, None, is_leaf=lambda leaf: leaf is None)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if type(leaf) in (int, float) else leaf


def _make_dictionary(
    dictionary: DictionaryName | Array, d: int, D: int, key: PRNGKey
) -> Float[Array, "d D"] | None:
    if not isinstance(dictionary, str):
        return dictionary
    if dictionary == "incoherent":
        return dictionaries.incoherent(d, D, key)
    if D != d:
        raise ValueError(
            f"dictionary '{dictionary}' is square, but D={D} ≠ d={d}. Use 'incoherent' for D > d."
        )
    if dictionary == "identity":
        return None
    if dictionary == "haar":
        return dictionaries.haar(d, key)
    if dictionary == "hadamard":
        return dictionaries.hadamard(d)
    if dictionary == "dct":
        return dictionaries.dct(d)
    raise ValueError(
        f"dictionary must be identity, haar, hadamard, dct, incoherent or an array, "
        f"got {dictionary!r}."
    )


def _make_wstar(wstar: LabelVector, D: int, key: PRNGKey) -> Float[Array, " D"]:
    sign_key, size_key = jax.random.split(key)
    signs = jax.random.rademacher(sign_key, (D,), dtype=jnp.float32)
    if isinstance(wstar, str):
        if wstar != "signs":
            raise ValueError(f"wstar must be 'signs', a pair (a, b) or an array, got {wstar!r}.")
        return signs
    if isinstance(wstar, tuple):
        low, high = (float(number("a magnitude of wstar", size, above=0)) for size in wstar)
        if not low <= high:
            raise ValueError(f"wstar magnitudes need 0 < a ≤ b, got ({low}, {high}).")
        return signs * jax.random.uniform(size_key, (D,), minval=low, maxval=high)
    given = number("wstar", wstar, ndim=1)
    if given.shape != (D,) or (is_concrete(given) and jnp.any(given == 0)):
        raise ValueError(
            f"wstar must be {D} finite non-zero numbers (one per feature), got shape {given.shape}."
        )
    return given
