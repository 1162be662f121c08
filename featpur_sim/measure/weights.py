"""What is in the weights (docs/theory.md §4): pure, dense and residual parts, overlaps, spectra.

With C = WM, neuron i has pure index j = argmax_j |C_ij|, pure coefficient α = C_ij, dense
coefficient κ = ⟨C_{i,−j}, w*₋ⱼ⟩/‖w*₋ⱼ‖², dense part v = κ Σ_{j'≠j} w*_{j'} M_{j'} and residual
r = w − αM_j − v. For unitary M, ‖w‖² = α² + ‖v‖² + ‖r‖² exactly.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.expected import expect
from featpur_sim._ground.norms import length, square_scale
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, Int, Scalar
from featpur_sim.data.sparse_coding import SparseCoding


class Decomposition(NamedTuple):
    """Per neuron, the parts of its weight vector. Norms and coefficients in units of w."""

    pure_index: Int[Array, " m"]
    alpha: Float[Array, " m"]
    kappa: Float[Array, " m"]
    signed_ratio: Float[Array, " m"]
    """κ/|α| signed by sgn(α w*_j): positive when the dense part points along the label."""
    dense_norm: Float[Array, " m"]
    residual_norm: Float[Array, " m"]
    norm: Float[Array, " m"]
    carrier: Bool[Array, " m"]
    """Whether |α| is at least half the largest: the neurons that carry the features."""


@steady
def decompose(weights: Float[Array, "m d"], problem: SparseCoding) -> Decomposition:
    """Split every neuron's weights into pure, dense and residual parts (docs/theory.md §4, [D]).

    Raises:
        ValueError: the arguments are of another kind, or in another order, or of two dimensions.
    """
    expect("problem", problem, SparseCoding, "a SparseCoding, the second argument of decompose")
    expect("weights", weights, (Array, np.ndarray), "the weights of a network, network.weights say")
    index, alpha, kappa, dense = _split(weights, problem)
    wstar = problem.wstar
    feature = jnp.eye(problem.D)[index] if problem.M is None else problem.M.T[index]
    residual = weights - alpha[:, None] * feature - dense
    size = jnp.abs(alpha)
    return Decomposition(
        pure_index=index,
        alpha=alpha,
        kappa=kappa,
        signed_ratio=kappa * jnp.sign(alpha * wstar[index]) / jnp.maximum(size, 1e-30),
        dense_norm=length(dense),
        residual_norm=length(residual),
        norm=length(weights),
        carrier=size >= 0.5 * jnp.max(size),
    )


@steady
def dense_part(weights: Float[Array, "m d"], problem: SparseCoding) -> Float[Array, "m d"]:
    """The dense mixtures v_i alone: subtract them from the weights to test what they do."""
    return _split(weights, problem)[3]


def _split(weights, problem):
    coordinates = problem.coordinates(weights)
    wstar = problem.wstar
    index = jnp.argmax(jnp.abs(coordinates), axis=-1)
    alpha = jnp.take_along_axis(coordinates, index[:, None], axis=-1)[:, 0]
    own = wstar[index]
    kappa = (coordinates @ wstar - alpha * own) / (jnp.sum(wstar**2) - own**2)
    # Σ_{j'≠j} w*_{j'} M_{j'}, without ever forming an m×D×d array.
    mixture = jnp.eye(problem.D)[index] if problem.M is None else problem.M.T[index]
    others = problem.dense_direction() - own[:, None] * mixture
    return index, alpha, kappa, kappa[:, None] * others


@steady
def summarise(parts: Decomposition, problem: SparseCoding) -> dict[str, Scalar]:
    """Aggregates over the carriers: medians, means and α²-weighted means.

    Returns:
        ``kappa_over_alpha`` (median), ``kappa_over_alpha_mean``, ``kappa_over_alpha_weighted``,
        ``dense_norm_over_alpha``, ``residual_norm_over_alpha`` (medians), ``features_covered``
        (fraction of the D features that some carrier holds), ``neurons_per_feature`` (carriers per
        covered feature), ``carriers`` (fraction of the m neurons), ``sign_agreement`` (fraction of
        carriers with sgn α = sgn w*_j), ``alpha_max``; and over all neurons ``purity`` (the
        fraction with |⟨w, M_j⟩| > ‖w‖/2, as of Sun et al. 2025) and ``pure_distance`` (of W from
        the nearest network whose neurons have one feature each, over ‖W‖; Frobenius norms).
    """
    size = jnp.abs(parts.alpha)
    covered = jnp.zeros(problem.D).at[parts.pure_index].max(parts.carrier.astype(jnp.float32))
    agree = jnp.sign(parts.alpha) == jnp.sign(problem.wstar[parts.pure_index])
    safe = jnp.maximum(size, 1e-30)
    weight = jnp.where(parts.carrier, (size / square_scale(size)) ** 2, 0)
    # ‖w − αM_j‖² for features of norm 1; the factors do not cancel where the difference would.
    scale = square_scale(parts.norm)
    impure = jnp.maximum(parts.norm - size, 0) / scale * (parts.norm + size) / scale
    whole = jnp.maximum(jnp.sum((parts.norm / scale) ** 2), 1e-30)
    return {
        "kappa_over_alpha": _median(parts.signed_ratio, parts.carrier),
        "kappa_over_alpha_mean": _mean(parts.signed_ratio, parts.carrier),
        "kappa_over_alpha_weighted": _mean(parts.signed_ratio, weight),
        "dense_norm_over_alpha": _median(parts.dense_norm / safe, parts.carrier),
        "residual_norm_over_alpha": _median(parts.residual_norm / safe, parts.carrier),
        "features_covered": jnp.mean(covered),
        "neurons_per_feature": jnp.sum(parts.carrier) / jnp.maximum(jnp.sum(covered), 1),
        "carriers": jnp.mean(parts.carrier.astype(jnp.float32)),
        "sign_agreement": _mean(agree.astype(jnp.float32), parts.carrier),
        "alpha_max": jnp.max(size),
        "purity": jnp.mean((2 * size > parts.norm).astype(jnp.float32)),
        "pure_distance": jnp.sqrt(jnp.sum(impure) / whole),
    }


def _median(values: Array, mask: Array) -> Scalar:
    return jnp.nanmedian(jnp.where(mask, values, jnp.nan))


def _mean(values: Array, weight: Array) -> Scalar:
    return jnp.sum(values * weight) / jnp.maximum(jnp.sum(weight), 1e-30)


def strongest(
    coordinates: Float[np.ndarray, "*lane m D"], count: int
) -> Int[np.ndarray, "*lane n"]:
    """The neurons to show: those with the largest |α|, in the order of their pure index.

    Args:
        coordinates: C = WM.
        count: how many; all, if there are no more.
    """
    size = np.abs(coordinates)
    order = np.argsort(-size.max(axis=-1), axis=-1)[..., :count]
    index = np.take_along_axis(size.argmax(axis=-1), order, axis=-1)
    return np.take_along_axis(order, np.argsort(index, axis=-1, kind="stable"), axis=-1)


@steady
def overlap(u: Float[Array, "m d"], v: Float[Array, "m d"]) -> Float[Array, " m"]:
    """θ(u, v) = |⟨u, v⟩|/(‖u‖‖v‖) per neuron; 0 where a vector is 0. [P]"""
    # Scaled first: the squares of weights of 1e-20 underflow.
    u, v = u / square_scale(u), v / square_scale(v)
    norms = jnp.linalg.norm(u, axis=-1) * jnp.linalg.norm(v, axis=-1)
    return jnp.abs(jnp.sum(u * v, axis=-1)) / jnp.maximum(norms, 1e-30)


class Rescaling(NamedTuple):
    """w = βw′ + v with the least-squares β, per neuron. [P]"""

    beta: Float[Array, " m"]
    kept_norm: Float[Array, " m"]
    """‖βw′‖"""
    removed_norm: Float[Array, " m"]
    """‖v‖"""


@steady
def rescaling(before: Float[Array, "m d"], after: Float[Array, "m d"]) -> Rescaling:
    """Split the clean weights w into a multiple of the purified w′ and what was removed."""
    # Scaled first: the squares of weights of 1e-20 underflow.
    scale = square_scale(after)
    unit = after / scale
    square = jnp.maximum(jnp.sum(unit**2, axis=-1), 1e-30)
    beta = jnp.sum(before / scale * unit, axis=-1) / square
    kept = beta[:, None] * after
    return Rescaling(beta, length(kept), length(before - kept))


@steady
def update_spectrum(
    before: Float[Array, "m d"], after: Float[Array, "m d"]
) -> tuple[Float[Array, " r"], Float[Array, " r"]]:
    """Singular values, falling, of W′ − W and of W − diag(β)W′ (docs/theory.md §4)."""
    beta = rescaling(before, after).beta
    plain = jnp.linalg.svd(after - before, compute_uv=False)
    rescaled = jnp.linalg.svd(before - beta[:, None] * after, compute_uv=False)
    return plain, rescaled
