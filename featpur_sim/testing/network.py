"""Does a network of one's own keep its contract? (docs/how-to/own-data.md)

Contracts are `featpur_sim.models.classifier.Classifier`, for attacks and critical radii, and
`featpur_sim.models.trainable.Trainable`, for training.
"""

from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import expect, said
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient
from featpur_sim.models.losses import loss_sum_and_gradient
from featpur_sim.models.trainable import Trainable, require_trainable

_POINTS = 16
# Relative to the largest value: what programs of one function may differ by, in float32.
_ROUNDING = 1e-3
# Of a difference quotient in float32, whose step crosses a few kinks, and its step in units of x.
_QUOTIENT, _STEP = 0.1, 3e-3


@steady
def check_network(
    network: Classifier, x: Float[Array, "n d"] | None = None, *, key: PRNGKey
) -> None:
    """Try everything that attacks and training rely on; silent if all of it holds.

    Gradients are judged at most of the points, not at all, for kinks have none.

    Args:
        network: a `Classifier`; a `Trainable` is checked for training as well.
        x: n ≥ 2 inputs to try it on; 16 standard normal ones by default, of the d of its weights.
        key: for the inputs, and for a network that needs one.

    Raises:
        ConfigError: the first thing that does not hold: the contract, what was found, the fix.

    >>> from featpur_sim import TwoLayer
    >>> check_network(TwoLayer.random(8, 6, key=jax.random.key(0)), key=jax.random.key(1))
    """
    expect("network", network, Classifier, "a Classifier, a subclass of it or of Trainable")
    if isinstance(network, Trainable):
        require_trainable("network", network)
    x = _inputs(network, x, key)
    value = _call(network, lambda: network(x, key=key), "f(x)")
    _require_finite(network, "f(x)", value, x.shape[:1])
    _check_rows(network, x, value, key)
    _check_input_gradient(network, x, value, key)
    _check_tracing(network, x, value, key)
    _check_smoothed(network, x, key)
    if isinstance(network, Trainable):
        _check_training(network, x, key)


def _refuse(network: Classifier, contract: str, found: str, fix: str) -> ConfigError:
    kind = "Trainable" if isinstance(network, Trainable) else "Classifier"
    return ConfigError(f"{type(network).__name__} breaks {kind}: {contract}, but {found}: {fix}.")


def _inputs(network: Classifier, x: Array | None, key: PRNGKey) -> Array:
    if x is None:
        weights = getattr(network, "weights", None)
        if getattr(weights, "ndim", 0) != 2:
            raise ConfigError(
                f"check_network: {type(network).__name__} has no weights [m, d] that tell the "
                f"length of its inputs, but {said(weights)}: give x, inputs of shape [n, d]."
            )
        return jax.random.normal(jax.random.fold_in(key, 1), (_POINTS, cast(Any, weights).shape[1]))
    if jnp.ndim(x) != 2 or len(x) < 2:
        raise ConfigError(
            f"check_network: x must hold at least 2 inputs, of shape [n, d], got {said(x)}."
        )
    return jnp.asarray(x, jnp.float32)


def _call(network: Classifier, function: Callable[[], Any], what: str) -> Any:
    """What a function returns; its error in one line."""
    try:
        return function()
    except ConfigError:
        raise
    except Exception as error:  # a user's code raises anything
        told = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        fix = "a network takes x [n, d] and key=…, and computes with jax.numpy alone"
        raise _refuse(network, f"{what} must be computed", f"it raises {told}", fix) from error


def _require_finite(network: Classifier, what: str, value: Any, shape: tuple[int, ...]) -> None:
    floats = eqx.is_array(value) and jnp.issubdtype(value.dtype, jnp.floating)
    if not floats or value.shape != shape:
        found = f"an array of {value.dtype}, {list(value.shape)}" if eqx.is_array(value) else None
        contract = f"{what} must be an array of floats of shape {list(shape)}"
        fix = "return one number per input" if len(shape) == 1 else "return one row per input"
        raise _refuse(network, contract, f"it is {found or said(value)}", fix)
    if bad := int(jnp.sum(~jnp.isfinite(value))):
        fix = "look for a division by 0, a logarithm or weights that are not finite"
        raise _refuse(network, f"{what} must be finite", f"{bad} numbers of it are not", fix)


def _differs(one: Array, other: Array) -> bool:
    scale = float(jnp.max(jnp.abs(one))) or 1.0
    return float(jnp.max(jnp.abs(one - other))) > _ROUNDING * scale


def _check_rows(network: Classifier, x: Array, value: Array, key: PRNGKey) -> None:
    if _differs(value, network(x, key=key)):
        fix = "draw every random number from key"
        raise _refuse(network, "f(x) must be a function of x and key", "it changed", fix)
    half = len(x) // 2
    other = x.at[half:].set(1 - 2 * x[half:])
    if _differs(value[:half], network(other, key=key)[:half]):
        found = "f of some inputs changed with other inputs of the batch"
        fix = "take no mean, norm or rank over the batch axis"
        raise _refuse(network, "each f(x) must depend on its own row alone", found, fix)


def _check_input_gradient(network: Classifier, x: Array, value: Array, key: PRNGKey) -> None:
    what = "value_and_input_gradient(x)"
    pair = _call(network, lambda: network.value_and_input_gradient(x, key=key), what)
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise _refuse(network, f"{what} must be a pair", f"it is {said(pair)}", "return f, ∇ₓf")
    found, gradient = pair
    _require_finite(network, f"the first of {what}", found, x.shape[:1])
    _require_finite(network, f"the second of {what}", gradient, x.shape)
    if _differs(value, found):
        fix = "compute both by one formula"
        raise _refuse(network, f"the first of {what} must be f(x)", "it is another number", fix)
    fix = "write ∇ₓf anew, or leave it to autodiff_input_gradient"
    size = jnp.linalg.norm(gradient, axis=1)
    contract = f"the second of {what} must be ∇ₓf(x)"
    direction = jax.random.normal(jax.random.fold_in(key, 2), x.shape)
    step = _STEP * direction
    slope = (network(x + step, key=key) - network(x - step, key=key)) / (2 * _STEP)
    claimed = jnp.sum(gradient * direction, axis=1)
    noise = 1e-6 * jnp.max(jnp.abs(value)) / _STEP
    far = jnp.abs(slope - claimed) > _QUOTIENT * jnp.maximum(size, jnp.abs(slope)) + noise
    if 2 * int(jnp.sum(far)) > len(x):
        told = f"difference quotients of f disagree at {int(jnp.sum(far))} of {len(x)} inputs"
        raise _refuse(network, contract, told, fix)
    own = _call(network, lambda: autodiff_input_gradient(network, x, key=key)[1], "∇ₓf by autodiff")
    far = jnp.linalg.norm(gradient - own, axis=1) > 10 * _ROUNDING * jnp.linalg.norm(own, axis=1)
    if 2 * int(jnp.sum(far)) > len(x):
        told = (
            f"it differs from automatic differentiation at {int(jnp.sum(far))} of {len(x)} inputs"
        )
        raise _refuse(network, contract, told, fix)


def _check_tracing(network: Classifier, x: Array, value: Array, key: PRNGKey) -> None:
    arrays, rest = eqx.partition(network, eqx.is_array)

    def whole(arrays: Any, x: Array) -> Array:
        return eqx.combine(arrays, rest)(x, key=key)

    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), arrays)
    many: Any = jax.vmap(whole, in_axes=(0, None), axis_size=2)
    for name, run in (
        ("jax.jit", lambda: jax.jit(whole)(arrays, x)),
        ("jax.vmap", lambda: many(twice, x)[1]),
    ):
        if _differs(value, _call(network, run, f"f(x) under {name}")):
            found = "it is another number there"
            fix = "let f read its arrays and x alone, and keep every array in a field"
            raise _refuse(network, f"f(x) under {name} must be f(x)", found, fix)


def _check_smoothed(network: Classifier, x: Array, key: PRNGKey) -> None:
    smooth = _call(network, lambda: network.smoothed(0.0), "smoothed(0)")
    if not isinstance(smooth, Classifier):
        fix = "return self, or a network with softer gates"
        raise _refuse(network, "smoothed(0) must be a Classifier", f"it is {said(smooth)}", fix)
    value = _call(network, lambda: smooth(x, key=key), "smoothed(0) of x")
    _require_finite(network, "smoothed(0) of x", value, x.shape[:1])


def _check_training(network: Trainable, x: Array, key: PRNGKey) -> None:
    y = jnp.where(jnp.arange(len(x)) % 2 == 0, 1.0, -1.0)
    run = lambda: loss_sum_and_gradient(network, x, y, key=key)[1]  # noqa: E731
    gradient = _call(network, run, "the gradient in its trained fields")
    parts = gradient if isinstance(gradient, dict) else {network.trained[0]: gradient}
    for name, part in parts.items():
        _require_finite(network, f"the gradient in {name}", part, getattr(network, name).shape)
        if not np.any(part):
            found = f"it is 0 everywhere at {len(x)} inputs"
            fix = f"let f use {name}, start it where f depends on it, or leave it out of trained"
            raise _refuse(network, f"the gradient in {name} must move it", found, fix)
