"""The symmetric two-layer ReLU network (docs/theory.md §2).

    f(x) = Σ_i [ReLU(⟨w_i,x⟩ + ρ_i − b_i) − ReLU(−⟨w_i,x⟩ + ρ_i − b_i)]

with fixed output weights and pre-activation noise ρ_i ~ N(0, σ_ρ²). Without noise this is
f(x) = Σ_i S_b(⟨w_i,x⟩) with the soft threshold S_b(u) = sign(u)·max(|u| − b, 0).
"""

from operator import attrgetter
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from featpur_sim._ground.checks import count, is_concrete, number
from featpur_sim._ground.norms import length
from featpur_sim._ground.show import line, runs, shown
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Bool, Float, Numbers, PRNGKey, Real
from featpur_sim.models.classifier import Classifier
from featpur_sim.models.trainable import Trainable

_LEAST_SIGMA = 1e-12

Smoothing = Literal["none", "sampled", "closed"]


class SymmetricReLU(Trainable):
    """The network of the theorem.

    A subclass that computes another function is trained and attacked through the derivatives of
    what it computes; what rests on the formula above (smoothing, certificates, exact radii, saved
    runs) is for `SymmetricReLU` itself.

    Output weights other than 1 need no class of their own: see `with_readout`.

    Attributes:
        weights: [m, d].
        bias: threshold b ≥ 0: one for all neurons, shape [], or one each, shape [m].
        sigma_rho: standard deviation of the pre-activation noise ρ, same units as the bias: one
            for all neurons, shape [], or (from `smoothed`) one each, shape [m].
        smoothing: ``"none"`` (ρ = 0), ``"sampled"`` (fresh ρ at every evaluation, needs ``key``)
            or ``"closed"`` (the expectation over ρ [D]:
            E ReLU(u+ρ−b) = (u−b)Φ((u−b)/σ_ρ) + σ_ρφ((u−b)/σ_ρ)).

    >>> SymmetricReLU(jnp.eye(4), 0.04)
    SymmetricReLU(4 neurons, d=4, b=0.04)
    """

    weights: Float[Array, "m d"]
    bias: Float[Array, "*m"]
    sigma_rho: Float[Array, "*m"]
    smoothing: Smoothing = eqx.field(static=True)

    @steady
    def __init__(
        self,
        weights: Numbers,
        bias: Numbers,
        *,
        sigma_rho: float = 0.0,
        smoothing: Smoothing = "none",
    ):
        if smoothing not in ("none", "sampled", "closed"):
            raise ValueError(f"smoothing must be 'none', 'sampled' or 'closed', got {smoothing!r}.")
        self.sigma_rho = number("sigma_rho", sigma_rho, least=0)
        if is_concrete(self.sigma_rho):
            if smoothing != "none" and self.sigma_rho == 0:
                raise ValueError(f"smoothing='{smoothing}' needs sigma_rho > 0, got {sigma_rho}.")
            if smoothing == "none" and self.sigma_rho != 0:
                raise ValueError(
                    f"sigma_rho={sigma_rho} has no effect with smoothing='none': "
                    "choose 'sampled' or 'closed'."
                )
        self.weights = number("weights", weights, ndim=2)
        self.bias = number("bias", bias, least=0, ndim=None)
        self.smoothing = smoothing
        if self.bias.shape not in ((), self.weights.shape[:1]):
            raise ValueError(
                f"bias must have shape () or ({self.weights.shape[0]},), got {self.bias.shape}."
            )

    def __repr__(self) -> str:
        shape = tuple(getattr(self.weights, "shape", ()))
        sizes = [f"{shape[-2]} neurons", f"d={shape[-1]}"] if len(shape) > 1 else ["…"]
        noise = [] if self.smoothing == "none" else [f"σ_ρ={shown(self.sigma_rho)}", self.smoothing]
        threshold = f"b={shown(self.bias)}"
        return line(type(self).__name__, *sizes, threshold, *noise, *runs(self.weights, 2))

    def preactivations(self, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
        """u = ⟨w_i, x⟩."""
        return x @ self.weights.T

    @steady
    def output_and_gate(
        self, u: Float[Array, "a b"], *, neurons: Literal[0, -1] = -1, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "a b"]]:
        """f and ∂f/∂u_i from the pre-activations.

        The derivative at a kink |u| = b is taken as 0 (the neuron counts as inactive).

        Args:
            u: [n, m], or [m, n] with ``neurons=0``.
            neurons: the axis of ``u`` that runs over neurons.
            key: PRNG key; needed by sampled smoothing alone.
        """
        b, sigma = self.bias, self.sigma_rho
        if neurons == 0:
            b, sigma = b[..., None], sigma[..., None]
        if self.smoothing == "none":
            excess = jnp.abs(u) - b
            gate = excess > 0
            return jnp.sum(jnp.where(gate, jnp.sign(u) * excess, 0), neurons), gate.astype(u.dtype)
        if self.smoothing == "sampled":
            if key is None:
                raise ValueError("a network with sampled ρ needs key= at every evaluation.")
            # One draw per (sample, neuron), whichever axis is which.
            normal = jax.random.normal(key, u.shape if neurons else u.shape[::-1], u.dtype)
            rho = sigma * (normal if neurons else normal.T)
            up, down = u + rho - b, -u + rho - b
            gate = (up > 0).astype(u.dtype) + (down > 0).astype(u.dtype)
            return jnp.sum(jax.nn.relu(up) - jax.nn.relu(down), neurons), gate
        up, down = (u - b) / sigma, (-u - b) / sigma
        cdf_up, cdf_down = norm.cdf(up), norm.cdf(down)
        value = up * cdf_up + norm.pdf(up) - down * cdf_down - norm.pdf(down)
        return jnp.sum(sigma * value, neurons), cdf_up + cdf_down

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return self.output_and_gate(self.preactivations(x), key=key)[0]

    @steady
    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        if type(self) is not SymmetricReLU:
            return super().value_and_input_gradient(x, key=key)
        value, gate = self.output_and_gate(self.preactivations(x), key=key)
        return value, gate @ self.weights

    @steady
    def smoothed(self, width: Real) -> Classifier:
        """E f(x + width·g) in closed form [D].

        ⟨w_i, g⟩ ~ N(0, ‖w_i‖²), f is a sum over neurons and E[S_b(u + ρ)] is the closed smoothing
        of σ_ρ, so smoothing the input with ``width`` is smoothing neuron i with width·‖w_i‖. A
        subclass, which may compute something else, is taken as it is.
        """
        if type(self) is not SymmetricReLU:
            return super().smoothed(width)
        width = number("width", width, least=0)
        own = 0.0 if self.smoothing == "none" else self.sigma_rho
        sigma = jnp.sqrt(own**2 + jnp.sum((width * self.weights) ** 2, -1))
        # Where the squares over- or underflow; the other rows keep every bit.
        usual = (sigma > 1e-15) & (sigma < 1e15)
        sigma = jnp.where(usual, sigma, jnp.hypot(own, length(width * self.weights)))
        closed = SymmetricReLU(self.weights, self.bias, sigma_rho=1.0, smoothing="closed")
        # A weight of 0 needs no smoothing, but 0/0 must not arise.
        return eqx.tree_at(attrgetter("sigma_rho"), closed, jnp.maximum(sigma, _LEAST_SIGMA))

    @steady
    def active(self, x: Float[Array, "n d"]) -> Bool[Array, "n m"]:
        """Which neurons pass their threshold without noise: |⟨w_i,x⟩| > b_i."""
        return jnp.abs(self.preactivations(x)) > self.bias


@steady
def initialise(
    d: int,
    m: int,
    *,
    sigma_0: float = 0.01,
    bias: float = 0.0,
    per_neuron_bias: bool = False,
    sigma_rho: float = 0.0,
    smoothing: Smoothing = "none",
    key: PRNGKey,
) -> SymmetricReLU:
    """A network with w_i ~ N(0, σ₀² I). [P]

    Args:
        d: input dimension.
        m: number of neurons.
        sigma_0: standard deviation of each initial weight; must be > 0.
        bias: initial threshold.
        per_neuron_bias: store one threshold per neuron.
        sigma_rho: see `SymmetricReLU`.
        smoothing: see `SymmetricReLU`.
        key: PRNG key.

    Raises:
        ValueError: m < 1, sigma_0 ≤ 0 or bias < 0.
    """
    d, m = count("d", d), count("m", m)
    # The start must be random, and f a sum of soft thresholds.
    sigma = number("sigma_0", sigma_0, above=0)
    level = number("bias", bias, least=0)
    thresholds = jnp.full((m,) if per_neuron_bias else (), level)
    weights = sigma * jax.random.normal(key, (m, d))
    return SymmetricReLU(weights, thresholds, sigma_rho=sigma_rho, smoothing=smoothing)


@steady
def pure_network(
    wstar: Float[Array, " D"], bias: Real, M: Float[Array, "d D"] | None = None
) -> SymmetricReLU:
    """The reference without any mixture: one neuron w*_j M_j per feature (docs/theory.md §5.2)."""
    wstar = number("wstar", wstar, ndim=1)
    features = jnp.eye(len(wstar), dtype=jnp.float32) if M is None else number("M", M, ndim=2).T
    return SymmetricReLU(wstar[:, None] * features, bias)


@steady
def with_readout(network: SymmetricReLU, readout: Numbers) -> SymmetricReLU:
    """f(x) = Σ_i a_i S_b(⟨w_i, x⟩) as a network with output weights 1 (docs/theory.md §2). [D]

    The soft threshold is odd and homogeneous, a·S_b(u) = S_{|a|b}(a·u): neuron i has the weights
    a_i w_i, the threshold |a_i| b and noise of |a_i| σ_ρ. So attacks, certificates and closed forms
    hold for it as they stand.

    Args:
        network: its features, with output weights 1.
        readout: a, one number per neuron, [m].

    Raises:
        ValueError: another number of entries, or a subclass, which may compute something else.

    >>> odd = with_readout(SymmetricReLU(jnp.eye(2), 0.5), [2.0, -1.0])
    >>> odd(jnp.array([[1.0, 2.0]])), odd.bias
    (Array([-0.5], dtype=float32), Array([1. , 0.5], dtype=float32))
    """
    if type(network) is not SymmetricReLU:
        raise ValueError(
            f"the network is a {type(network).__name__}: output weights can be moved into the "
            "hidden ones of a SymmetricReLU, not of a subclass or another class. Give a "
            "SymmetricReLU."
        )
    a = number("readout", readout, ndim=1)
    if a.shape != (network.m,):
        raise ValueError(
            f"readout must have one entry for each of the {network.m} neurons, got {a.shape[0]}."
        )
    size = jnp.abs(a)
    parts = a[:, None] * network.weights, size * network.bias
    folded = eqx.tree_at(attrgetter("weights", "bias"), network, parts)
    if network.smoothing == "none":
        return folded
    # An output weight of 0 needs no noise, but 0/0 must not arise.
    sigma = jnp.maximum(size * network.sigma_rho, _LEAST_SIGMA)
    return eqx.tree_at(attrgetter("sigma_rho"), folded, sigma)
