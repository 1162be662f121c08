"""Linear classifiers and their exact robust training (docs/theory.md §6, L1-L4).

f(x) = ⟨w,x⟩ + b. The worst perturbation of norm τ is known, so robust training needs no attack:
y f falls by τ‖w‖_*, the dual norm (ℓ2: ‖w‖₂; ℓ∞: ‖w‖₁).
"""

from operator import attrgetter
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax

from featpur_sim._ground.checks import count, number
from featpur_sim._ground.norms import Norm, length
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Int, Numbers, PRNGKey, Real, Scalar
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.classifier import Classifier, autodiff_input_gradient

# The surrogate's width falls along these multiples of τ; the last is close to the 0-1 loss.
_WIDTHS = (0.5, 0.15)


class LinearClassifier(Classifier):
    """f(x) = ⟨w,x⟩ + b.

    Attributes:
        weight: w, [d].
        intercept: b, [].
    """

    weight: Float[Array, " d"]
    intercept: Float[Array, ""]

    def __init__(self, weight: Numbers, intercept: Real = 0.0):
        self.weight = number("weight", weight, ndim=1)
        self.intercept = number("intercept", intercept)

    @steady
    def __call__(self, x: Float[Array, "n d"], *, key: PRNGKey | None = None) -> Float[Array, " n"]:
        return x @ self.weight + self.intercept

    def value_and_input_gradient(
        self, x: Float[Array, "n d"], *, key: PRNGKey | None = None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        if type(self) is not LinearClassifier:
            return autodiff_input_gradient(self, x, key=key)
        return self(x), jnp.broadcast_to(self.weight, x.shape)

    @steady
    def worst_margin(
        self, x: Float[Array, "n d"], y: Float[Array, " n"], radius: Scalar, norm: Norm = "l2"
    ) -> Float[Array, " n"]:
        """min y f(x + δ) over ‖δ‖ ≤ radius, exactly: y f(x) − radius·‖w‖_*. [D] §6, L4"""
        return y * self(x) - radius * _dual_norm(self.weight, norm)


@steady
def train_linear(
    problem: SparseCoding,
    radius: float,
    *,
    norm: Norm = "l2",
    intercept: bool = False,
    key: PRNGKey,
    steps: int = 600,
    batch: int = 1024,
    learning_rate: float = 0.01,
) -> LinearClassifier:
    """The best linear classifier that gradient descent finds for the robust 0-1 loss. [D] §6, L4

    Minimises E σ(−m/(sτ)), with m the exact robust margin over ‖w‖_*, s falling from 0.5 to 0.15.
    It starts at the optimum of the convex surrogates, w ∝ Mw*: no convex loss could leave it, and
    where τ√d ≥ E|S| a convex one would end at w = 0.

    Args:
        problem: the data.
        radius: τ > 0.
        norm: of the perturbation, ``"l2"`` or ``"linf"``.
        intercept: train b too, from 0.9τ‖w‖_*; otherwise b = 0.
        key: names the samples.
        steps: of Adam, in all; at least 2.
        batch: fresh samples a step.
        learning_rate: of Adam at the start of each width.

    Returns:
        The classifier, with ‖w‖₂ = 1.

    Raises:
        ValueError: an unknown norm, or a number out of range.

    >>> problem = SparseCoding(d=16, k=3, sigma_x=0.3)
    >>> model = train_linear(problem, 0.1, key=jax.random.key(0), steps=20, batch=64)
    >>> bool(jnp.isclose(jnp.linalg.norm(model.weight), 1)), float(model.intercept)
    (True, 0.0)
    """
    tau = number("radius", radius, above=0)
    number("learning_rate", learning_rate, above=0)
    steps, batch = count("steps", steps, len(_WIDTHS)), count("batch", batch)
    direction = problem.dense_direction()
    direction = direction / length(direction)
    start = 0.9 * float(radius) * _dual_norm(direction, norm) if intercept else jnp.float32(0)
    model = LinearClassifier(direction, start)
    for position, width in enumerate(_WIDTHS):
        model = _descend(
            model, problem, tau, jnp.float32(width), norm, intercept,
            float(learning_rate), jax.random.fold_in(key, position), steps // len(_WIDTHS), batch,
        )  # fmt: skip
    return model


# The state is that of optax.adam with a schedule.
_State = tuple[optax.ScaleByAdamState, optax.ScaleByScheduleState]
_Carry = tuple[LinearClassifier, _State]


@eqx.filter_jit
def _descend(
    model: LinearClassifier,
    problem: SparseCoding,
    radius: Scalar,
    width: Scalar,
    norm: Norm,
    intercept: bool,
    learning_rate: float,
    key: PRNGKey,
    steps: int,
    batch: int,
) -> LinearClassifier:
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss(model: LinearClassifier, sample: Batch) -> Scalar:
        scale = _dual_norm(model.weight, norm)
        margin = model.worst_margin(sample.x, sample.y, radius, norm) / (scale * width * radius)
        counted = sample.labelled
        return jnp.sum(jnp.where(counted, jax.nn.sigmoid(-margin), 0)) / jnp.sum(counted)

    def step(t: Int[Array, ""], carry: _Carry) -> _Carry:
        model, state = carry
        sample = problem.sample(jax.random.fold_in(key, t), batch)
        gradient = cast(optax.Updates, jax.grad(loss)(model, sample))
        if not intercept:
            gradient = eqx.tree_at(attrgetter("intercept"), gradient, jnp.float32(0))
        updates, state = optimizer.update(gradient, state)
        model = cast(LinearClassifier, eqx.apply_updates(model, updates))
        length = cast(Array, jnp.linalg.norm(model.weight))
        return cast(
            _Carry, (LinearClassifier(model.weight / length, model.intercept / length), state)
        )

    start = model, optimizer.init(cast(optax.Params, model))
    return cast(_Carry, lax.fori_loop(0, steps, step, start))[0]


def _dual_norm(weight: Float[Array, " d"], norm: Norm) -> Float[Array, ""]:
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm must be 'l2' or 'linf', got {norm!r}.")
    return length(weight) if norm == "l2" else cast(Array, jnp.linalg.norm(weight, 1))
