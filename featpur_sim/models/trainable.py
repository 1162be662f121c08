"""What training asks of a network (docs/how-to/own-data.md): which arrays descent moves.

`train` takes any `Trainable`. The optimiser sees the array alone where one is trained, and a dict
by name where several are; so do gradients.
"""

from operator import attrgetter
from typing import Any, ClassVar, TypeVar, cast

import equinox as eqx
import jax.numpy as jnp

from featpur_sim._ground.checks import ConfigError
from featpur_sim._ground.expected import expect, said
from featpur_sim._ground.types import Array, Float, PRNGKey
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient


class Trainable(Classifier):
    """A classifier with hidden weights and a threshold, which gradient descent can train.

    A subclass says what it computes, ``__call__``; its derivatives are found by automatic
    differentiation unless it knows better. Further fields are its own: arrays that stay as they
    are, unless ``trained`` names them.

    Attributes:
        weights: [m, d], one row per neuron. Weight decay acts on rows: see
            `featpur_sim.models.losses`.
        bias: threshold, shape [] or [m]. A phase's schedule sets it at every step, so it cannot be
            among the trained; 0 for a network without one.
        trained: names of the fields that descent moves, arrays of floats: a class attribute, or a
            static field where networks of one class differ in it.

    >>> import jax
    >>> class Shifted(Trainable):
    ...     weights: jax.Array
    ...     bias: jax.Array
    ...     offset: jax.Array
    ...     trained = ("weights", "offset")
    ...
    ...     def __call__(self, x, *, key=None):
    ...         return jnp.tanh(x @ self.weights.T - self.bias).sum(axis=1) + self.offset
    >>> network = Shifted(jnp.eye(2), jnp.zeros(()), jnp.ones(()))
    >>> network.value_and_input_gradient(jnp.zeros((1, 2)))
    (Array([1.], dtype=float32), Array([[1., 1.]], dtype=float32))
    """

    weights: eqx.AbstractVar[Float[Array, "m d"]]
    bias: eqx.AbstractVar[Float[Array, "*m"]]
    trained: ClassVar[tuple[str, ...]] = ("weights",)

    @property
    def m(self) -> int:
        """Number of hidden neurons."""
        return self.weights.shape[-2]

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.weights.shape[-1]

    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        return autodiff_input_gradient(self, x, key=key)


AnyTrainable = TypeVar("AnyTrainable", bound=Trainable)


def trained_arrays(network: Trainable) -> Any:
    """What descent moves: the array where it is one, otherwise name → array."""
    names = network.trained
    if len(names) == 1:
        return getattr(network, names[0])
    return {name: getattr(network, name) for name in names}


def with_trained(network: AnyTrainable, arrays: Any) -> AnyTrainable:
    """The network with others in the place of `trained_arrays`."""
    names = network.trained
    parts = arrays if len(names) == 1 else tuple(arrays[name] for name in names)
    return eqx.tree_at(attrgetter(*names), network, parts)


def require_trainable(name: str, network: Any, wanted: str = "") -> None:
    """Refuse what descent cannot move, before anything is computed.

    Args:
        name: of the parameter.
        network: what was given; its arrays may have a leading axis of runs.
        wanted: how to get one, in words.

    Raises:
        ConfigError: not a `Trainable`, or one of its trained fields is not an array of floats.
    """
    wanted = wanted or "SymmetricReLU, TwoLayer or a subclass of Trainable"
    expect(name, network, Trainable, f"a Trainable network, {wanted}")
    kind = type(network).__name__
    names = cast(tuple[str, ...], network.trained)
    if not isinstance(names, tuple) or not names or len(set(names)) != len(names):
        raise ConfigError(
            f"{name}: {kind}.trained must be a tuple of different names of fields, "
            f"('weights',) say, got {names!r}."
        )
    for field in names:
        value: Any = getattr(network, field, None)
        if field == "bias":
            raise ConfigError(
                f"{name}: {kind}.trained names 'bias', which the schedule of the phase sets: give "
                "a trained offset a field of another name."
            )
        if not eqx.is_array(value) or not jnp.issubdtype(value.dtype, jnp.floating):
            found = f"an array of {value.dtype}" if eqx.is_array(value) else said(value)
            raise ConfigError(
                f"{name}: {kind}.trained names {field!r}, which must be a field of the Trainable "
                f"that holds an array of floats, got {found}."
            )
    for field, least in (("weights", 2), ("bias", 0)):
        value = getattr(network, field)
        if not eqx.is_array(value) or value.ndim < least:
            raise ConfigError(
                f"{name}: {kind}.{field} must be an array of shape "
                f"{'[m, d]' if least else '[] or [m]'}, as the contract Trainable says, got "
                f"{said(value)}."
            )
