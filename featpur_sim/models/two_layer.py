"""The two-layer network with gates on one side (docs/how-to/own-data.md).

    f(x) = Σ_i a_i max(⟨w_i, x⟩ − b_i, 0)^p

The one that most theorems about small networks are about: ReLU for p = 1, a polynomial ReLU for
p ≥ 2.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.show import line, runs, shown
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Numbers, PRNGKey
from featpur_sim.models.trainable import Trainable, require_trainable


class TwoLayer(Trainable):
    """f(x) = Σ_i a_i max(⟨w_i, x⟩ − b_i, 0)^p. [D]

    Certificates, exact radii, smoothing and saved runs rest on the formula of `SymmetricReLU`, and
    refuse this class.

    Attributes:
        weights: w, [m, d].
        bias: threshold b: one for all neurons, shape [], or one each, shape [m]; of either sign.
        readout: output weights a, [m].
        degree: p ≥ 1 (static).
        trained: ``("weights",)``, with the output weights fixed, or ``("weights", "readout")`` or
            ``("readout",)`` (static).

    Raises:
        ValueError: a shape or a number that does not fit, or a field that cannot be trained.

    >>> network = TwoLayer(jnp.eye(2), 0.5, [1.0, -1.0], degree=3)
    >>> network, network(jnp.array([[1.5, 0.0], [0.0, 1.5], [-9.0, -9.0]]))
    (TwoLayer(2 neurons, d=2, p=3, b=0.5), Array([ 1., -1.,  0.], dtype=float32))
    """

    weights: Float[Array, "m d"]
    bias: Float[Array, "*m"]
    readout: Float[Array, " m"]
    degree: int = eqx.field(static=True)
    trained: tuple[str, ...] = eqx.field(static=True)

    @steady
    def __init__(
        self,
        weights: Numbers,
        bias: Numbers,
        readout: Numbers,
        *,
        degree: int = 1,
        trained: tuple[str, ...] = ("weights",),
    ):
        self.weights = number("weights", weights, ndim=2)
        self.bias = number("bias", bias, ndim=None)
        self.readout = number("readout", readout, ndim=1)
        self.degree = count("degree", degree)
        self.trained = trained  # pyright: ignore[reportIncompatibleVariableOverride]
        m = self.weights.shape[:1]
        if self.bias.shape not in ((), m):
            raise ValueError(f"bias must have shape () or ({m[0]},), got {self.bias.shape}.")
        if self.readout.shape != m:
            raise ValueError(
                f"readout must have one entry for each of the {m[0]} neurons, got "
                f"{self.readout.shape[0]}."
            )
        require_trainable("TwoLayer", self)

    @classmethod
    @steady
    def random(
        cls,
        d: int,
        m: int,
        *,
        degree: int = 1,
        sigma_0: float = 0.01,
        size: float = 1.0,
        bias: float = 0.0,
        per_neuron_bias: bool = False,
        trained: tuple[str, ...] = ("weights",),
        key: PRNGKey,
    ) -> "TwoLayer":
        """A network with w_i ~ N(0, σ₀² I) and output weights ±size in turns.

        Args:
            d: input dimension.
            m: number of neurons; every other one has the output weight −size.
            degree: p.
            sigma_0: standard deviation of each initial weight; must be > 0.
            size: |a_i|, > 0: 1/m for a mean over neurons.
            bias: initial threshold.
            per_neuron_bias: store one threshold per neuron.
            trained: fields that descent moves.
            key: PRNG key.

        Raises:
            ValueError: a number is out of range.

        >>> TwoLayer.random(8, 3, size=0.5, key=jax.random.key(0)).readout
        Array([ 0.5, -0.5,  0.5], dtype=float32)
        """
        d, m = count("d", d), count("m", m)
        sigma = number("sigma_0", sigma_0, above=0)
        each = number("size", size, above=0)
        readout = jnp.where(jnp.arange(m) % 2 == 0, each, -each)
        thresholds = jnp.full((m,) if per_neuron_bias else (), number("bias", bias))
        weights = sigma * jax.random.normal(key, (m, d))
        return cls(weights, thresholds, readout, degree=degree, trained=trained)

    def __repr__(self) -> str:
        shape = tuple(getattr(self.weights, "shape", ()))
        sizes = [f"{shape[-2]} neurons", f"d={shape[-1]}"] if len(shape) > 1 else ["…"]
        own = [] if self.trained == ("weights",) else [f"trains {' and '.join(self.trained)}"]
        threshold = f"b={shown(self.bias)}"
        parts = *sizes, f"p={self.degree}", threshold, *own, *runs(self.weights, 2)
        return line(type(self).__name__, *parts)

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return jax.nn.relu(x @ self.weights.T - self.bias) ** self.degree @ self.readout

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        """f(x) and ∇ₓf(x) = Σ_i a_i p max(⟨w_i, x⟩ − b_i, 0)^(p−1) w_i, 0 at a kink. [D]"""
        if type(self) is not TwoLayer:
            return super().value_and_input_gradient(x, key=key)
        excess = jax.nn.relu(x @ self.weights.T - self.bias)
        below = (excess > 0).astype(excess.dtype)
        if self.degree > 1:
            below = self.degree * excess ** (self.degree - 1)
        return excess**self.degree @ self.readout, (below * self.readout) @ self.weights
