"""The training objective (docs/theory.md §3):

    E[log(1 + exp(−y f(x)))] + λ Σ_i Reg(w_i),   Reg(w) = ‖w‖²/2 + ‖w‖³/3.

The expectation is over labelled samples: ties carry y = 0 and weight 0. A phase may take another
function of the margin y f(x); the theorem and the claims are about this one. Where a network trains
more than its hidden weights, every other array a adds λ‖a‖²/2.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Int, PRNGKey, Scalar
from featpur_sim.models.symmetric_relu import SymmetricReLU
from featpur_sim.models.trainable import Trainable, trained_arrays, with_trained

Loss = Callable[[Array], Array]
"""margin ↦ loss, entry by entry; traceable by JAX, with a derivative almost everywhere."""


def logistic_loss(margin: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """log(1 + exp(−margin)), with margin = y f(x). [P]"""
    return jax.nn.softplus(-margin)


def hinge_loss(margin: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """max(1 − margin, 0)."""
    return jax.nn.relu(1 - margin)


def squared_loss(margin: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """(1 − margin)², which is (y − f)² for y = ±1."""
    return (1 - margin) ** 2


@steady
def regulariser(weights: Float[Array, "m d"]) -> Scalar:
    """Σ_i ‖w_i‖²/2 + ‖w_i‖³/3. [P]"""
    norms = cast(Array, jnp.linalg.norm(weights, axis=-1))
    return jnp.sum(norms**2 / 2 + norms**3 / 3)


@steady
def regulariser_gradient(weights: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """∇Reg(w_i) = (1 + ‖w_i‖) w_i. [D]"""
    return (1 + cast(Array, jnp.linalg.norm(weights, axis=-1, keepdims=True))) * weights


@steady
def decay_gradient(network: Trainable) -> Any:
    """What weight decay pulls on each trained array, in units of λ.

    On the rows of W as in `regulariser_gradient`; on any other array a plain ‖a‖²/2, for the cubic
    term belongs to the theorem's hidden weights. What is not trained does not decay.

    Returns:
        Arrays as in `featpur_sim.models.trainable.trained_arrays`.
    """
    arrays = trained_arrays(network)
    if network.trained == ("weights",):
        return regulariser_gradient(arrays)
    if "weights" not in network.trained:
        return arrays
    return arrays | {"weights": regulariser_gradient(network.weights)}


@steady
def loss_sum_and_gradient(
    network: Trainable,
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    loss: Loss = logistic_loss,
    key: PRNGKey | None = None,
) -> tuple[Scalar, Any, Int[Array, ""]]:
    """Sum of losses over the labelled rows, its gradient, and their number.

    The gradient is in the trained arrays, as in `featpur_sim.models.trainable.trained_arrays`. For
    a `SymmetricReLU` it is written out, Σ_n y_n ℓ′(y_n f_n) (∂f/∂u_i)(u_n) x_n with ℓ′ = −σ(−·) for
    the logistic loss: two matrix products and no stored residuals. Any other class, a subclass of
    it too, may compute another function, and is differentiated.
    Sums, not means, so that chunks add up.
    """
    labelled = y != 0
    if type(network) is not SymmetricReLU:

        def whole(arrays: Any) -> Scalar:
            value = with_trained(network, arrays)(x, key=key)
            return jnp.sum(jnp.where(labelled, loss(y * value), 0))

        return *jax.value_and_grad(whole)(trained_arrays(network)), jnp.sum(labelled)
    # [m, n], not [n, m]: both products are then plain A·B, which every backend has a fast path for.
    # The contraction of [n, m] with [n, d] over n takes XLA on a CPU 1.5 to 2 times as long.
    value, gate = network.output_and_gate(network.weights @ x.T, neurons=0, key=key)
    margin = y * value
    total = jnp.sum(jnp.where(labelled, loss(margin), 0))
    if loss is logistic_loss:
        slope = -y * jax.nn.sigmoid(-margin)
    else:

        def all_together(margin: Float[Array, " n"]) -> Scalar:
            return jnp.sum(loss(margin))

        slope = y * cast(Array, jax.grad(all_together)(margin))
    return total, (jnp.where(labelled, slope, 0) * gate) @ x, jnp.sum(labelled)
