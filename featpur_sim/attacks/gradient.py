"""Attacks: perturbations δ of norm at most τ that try to flip the label (docs/theory.md §3, §5).

An attack maps (model, batch) to δ and sees the model only as a
`Classifier`. ``radius`` is data, so one compiled program serves
every radius; ``steps`` and ``restarts`` are static.
"""

import abc
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from featpur_sim._ground.checks import ConfigError, count, is_concrete, number
from featpur_sim._ground.expected import expect, expect_methods, said
from featpur_sim._ground.norms import Norm
from featpur_sim._ground.show import line, runs, shown
from featpur_sim._ground.switches import steady
from featpur_sim._ground.types import Array, Float, Int, PRNGKey, Real, Scalar
from featpur_sim.attacks.balls import Ball, L2Ball, LinfBall, ball
from featpur_sim.data.sparse_coding import Batch, SparseCoding
from featpur_sim.models.classifier import Classifier

# PGD's first step in radii, and how far past the sphere all its steps together must reach at least.
_STEP_SIZE, _OVERSHOOT = 0.5, 1.02


class Attack(eqx.Module):
    """A rule that perturbs labelled samples inside a norm ball."""

    ball: Ball

    # A worst-case attacker may also leave a sample alone; random noise may not.
    worst_case: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        """δ with ‖δ‖ ≤ radius for each sample of the batch."""

    def __repr__(self) -> str:
        radius = getattr(self.ball, "radius", None)
        names: dict[type[Ball], Norm] = {L2Ball: "l2", LinfBall: "linf"}
        norm = names.get(type(self.ball), type(self.ball).__name__)
        settings = (f"{n}={v}" for n in ("steps", "restarts") if (v := getattr(self, n, None)))
        return line(type(self).__name__, f"τ={shown(radius)}", norm, *settings, *runs(radius))


class Found(NamedTuple):
    """The best perturbations of a search: y f(x + δ), shape [n], and δ, shape [n, d]."""

    margin: Float[Array, " n"]
    delta: Float[Array, "n d"]


def keep_better(best: Found, margin: Float[Array, " n"], delta: Float[Array, "n d"]) -> Found:
    """The lesser margin of the two, sample by sample, with its δ; ``best`` where they tie."""
    better = margin < best.margin
    return Found(
        jnp.where(better, margin, best.margin), jnp.where(better[:, None], delta, best.delta)
    )


class FGM(Attack):
    """Fast gradient method: δ = −y·argmax_{‖δ‖≤τ} ⟨∇ₓf, δ⟩; δ = 0 where ∇ₓf = 0. [P]

    ℓ2: −yτ∇f/‖∇f‖₂. ℓ∞ (FGSM): −yτ sign ∇f.

    >>> FGM(0.1), PGD(0.1, "linf", steps=20)
    (FGM(τ=0.1, l2), PGD(τ=0.1, linf, steps=20, restarts=1))
    """

    def __init__(self, radius: Real, norm: Norm = "l2"):
        self.ball = ball(norm, radius)

    @steady
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        _, gradient = model.value_and_input_gradient(batch.x, key=key)
        return -batch.y[:, None] * self.ball.maximise(gradient)


class PGD(Attack):
    """Projected gradient descent on y f with restarts; the best iterate is kept.

    The first start is δ = 0, the others are random points of the ball. Step sizes fall from
    ``step_size``·τ to a twentieth of it along a half cosine; together they must reach the sphere
    from δ = 0. With ``smoothing`` the gradients are
    those of `Classifier.smoothed`, of a width that falls alike: they see gates that open or close
    near by, which the model's own gradient misses.

    Args:
        radius: τ, in units of x.
        norm: ``"l2"`` or ``"linf"``.
        steps: gradient steps per start (static).
        restarts: number of starts (static).
        step_size: first step as a fraction of the radius; 0.5 by default, and more for 1 or 2
            steps, which would end inside the ball.
        smoothing: first width of the smoothing, as the norm of its Gaussian noise over the norm of
            the longest δ, both ℓ2; 0 for the model's own gradients.
        on_support: move only the coordinates j with z_j ≠ 0 (docs/theory.md §5.2). Needs M = I.

    Raises:
        ValueError: steps or restarts below 1, step_size ≤ 0 or smoothing < 0, or steps that end
            inside the ball.
    """

    steps: int = eqx.field(static=True)
    restarts: int = eqx.field(static=True)
    step_size: Array
    smoothing: Array | None
    on_support: bool = eqx.field(static=True)

    @steady
    def __init__(
        self,
        radius: Real,
        norm: Norm = "l2",
        *,
        steps: int = 40,
        restarts: int = 1,
        step_size: Real | None = None,
        smoothing: float = 0.0,
        on_support: bool = False,
    ):
        self.steps, self.restarts = count("steps", steps), count("restarts", restarts)
        # All steps together, in units of the first: the cosines of a half turn add up to 1.
        reach = 0.525 * self.steps + 0.475
        if step_size is None:
            step_size = max(_STEP_SIZE, _OVERSHOOT / reach)
        self.step_size = number("step_size", step_size, above=0)
        if is_concrete(step_size) and float(step_size) * reach < 1 - 1e-6:
            raise ValueError(
                f"PGD with steps={self.steps} of step_size={float(step_size):g} ends inside "
                f"its ball, {float(step_size) * reach:.2g} radii from δ = 0: raise step_size to "
                f"{_OVERSHOOT / reach:.3g}, take more steps, or leave step_size out."
            )
        self.ball = ball(norm, radius)
        width = number("smoothing", smoothing, least=0)
        self.smoothing = None if is_concrete(width) and width == 0 else width
        self.on_support = on_support

    @steady
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        def start(best: Found, restart: Int[Array, ""]) -> tuple[Found, None]:
            restart_key = jax.random.fold_in(key, restart)
            delta = self.start(key, restart, batch.x.shape)
            return keep_better(best, *self.descend(model, batch, delta, key=restart_key)), None

        nothing = Found(jnp.full(batch.y.shape, jnp.inf, batch.x.dtype), jnp.zeros_like(batch.x))
        best, _ = lax.scan(start, nothing, jnp.arange(self.restarts))
        return best.delta

    @steady
    def descend(
        self,
        model: Classifier,
        batch: Batch,
        start: Float[Array, "n d"],
        *,
        key: PRNGKey,
    ) -> Found:
        """The best point of one descent from ``start``, which is projected first.

        Args:
            model: any classifier; it scores every iterate.
            batch: n labelled samples.
            start: δ to begin with.
            key: for randomised models.

        Returns:
            The least y f seen and its δ, sample by sample; ``start`` itself is among those seen.

        Raises:
            ValueError: ``on_support`` with M ≠ I.
        """
        mask = self._mask(batch)

        def step(
            carry: tuple[Float[Array, "n d"], Found], t: Int[Array, ""]
        ) -> tuple[tuple[Float[Array, "n d"], Found], None]:
            delta, best = carry
            following, margin = self.move(
                model, batch, delta, t, mask, key=jax.random.fold_in(key, t)
            )
            return (following, keep_better(best, margin, delta)), None

        nothing = Found(jnp.full(batch.y.shape, jnp.inf, batch.x.dtype), jnp.zeros_like(batch.x))
        # A start that is 0 for all to see would have its norms taken by the compiler, one by one.
        first = (self.ball.project(lax.optimization_barrier(start) * mask), nothing)
        (delta, best), _ = lax.scan(step, first, jnp.arange(self.steps))
        value = model(batch.x + delta, key=jax.random.fold_in(key, self.steps))
        return keep_better(best, batch.y * value, delta)

    def start(self, key: PRNGKey, restart: int | Array, shape: tuple[int, ...]) -> Array:
        """Where descent number ``restart`` begins: 0, or a random point of the ball."""
        random = self.ball.random(jax.random.fold_in(key, restart), shape)
        return jnp.where(restart == 0, 0.0, random)

    def move(
        self,
        model: Classifier,
        batch: Batch,
        delta: Float[Array, "n d"],
        t: int | Array,
        mask: float | Array,
        *,
        key: PRNGKey | None = None,
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Step t of a descent: the next δ, moved in ``mask`` only, and y f at ``delta``."""
        fall = 0.05 + 0.95 * 0.5 * (1 + jnp.cos(jnp.pi * t / self.steps))
        value, gradient = self._look(model, batch.x + delta, fall, key=key)
        move = self.step_size * fall * self.ball.maximise(gradient * mask)
        return self.ball.project(delta - batch.y[:, None] * move), batch.y * value

    def _look(
        self, model: Classifier, x: Float[Array, "n d"], fall: Scalar, *, key: PRNGKey | None
    ) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        """f at x, and the gradient to follow there."""
        if self.smoothing is None:
            return model.value_and_input_gradient(x, key=key)
        # The longest δ of either ball has equal coordinates: its size per coordinate.
        longest = jnp.max(self.ball.maximise(jnp.ones((1, x.shape[1]), x.dtype)))
        smooth = model.smoothed(fall * self.smoothing * longest)
        return model(x, key=key), smooth.value_and_input_gradient(x, key=key)[1]

    def _mask(self, batch: Batch) -> Float[Array, "..."]:
        if not self.on_support:
            return jnp.ones((), batch.x.dtype)
        if batch.z.shape != batch.x.shape:
            raise ValueError("PGD(on_support=True) needs M = I: evaluate problem.gauge().")
        return (batch.z != 0).astype(batch.x.dtype)


class DenseMixture(Attack):
    """δ = −yτ·Mw*/‖Mw*‖₂ (ℓ∞: −yτ sign(Mw*)): one direction for all, no look at the model. [P]

    Args:
        radius: τ.
        direction: Mw*, shape [d]; see `of`.
        norm: ``"l2"`` or ``"linf"``.
    """

    direction: Float[Array, " d"]

    @steady
    def __init__(self, radius: Real, direction: Float[Array, " d"], norm: Norm = "l2"):
        self.ball = ball(norm, radius)
        self.direction = number("direction", direction, ndim=1)

    @classmethod
    def of(cls, problem: SparseCoding, radius: Real, norm: Norm = "l2") -> "DenseMixture":
        """The attack along the dense mixture of ``problem``.

        Raises:
            ConfigError: ``problem`` has no dense direction.
        """
        expect_methods("problem", problem, ("dense_direction",), "a problem, SparseCoding(…) say")
        return cls(radius, problem.dense_direction(), norm)

    @steady
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        return -batch.y[:, None] * self.ball.maximise(self.direction[None])


class FunctionAttack(Attack):
    """A function of your own as an attack, kept inside its ball.

    Args:
        function: (model, batch, key=…) → perturbations [n, d]; traceable by JAX.
        radius: τ; what the function returns is projected onto the ball.
        norm: ``"l2"`` or ``"linf"``.

    Raises:
        ConfigError: ``function`` cannot be called, or returns another shape than the inputs'.

    >>> import jax.numpy as jnp
    >>> FunctionAttack(lambda model, batch, key: -batch.y[:, None] * jnp.ones_like(batch.x), 0.1)
    FunctionAttack(τ=0.1, l2)
    """

    function: Callable[..., Array] = eqx.field(static=True)

    @steady
    def __init__(self, function: Callable[..., Array], radius: Real, norm: Norm = "l2"):
        expect("function", function, Callable, "a function (model, batch, key=…) → δ")
        self.ball = ball(norm, radius)
        self.function = function

    @steady
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        delta = self.function(model, batch, key=key)
        if jnp.shape(delta) != batch.x.shape:
            raise ConfigError(
                f"FunctionAttack: {said(self.function)} must return one perturbation per input, of "
                f"shape {batch.x.shape}, got {jnp.shape(delta)}."
            )
        return self.ball.project(jnp.asarray(delta, batch.x.dtype))


def require_attack(name: str, attack: object) -> None:
    """Refuse what is no attack.

    Args:
        name: of the parameter.
        attack: what was given.

    Raises:
        ConfigError: a number, a class instead of one of its objects, a bare function, …
    """
    wanted = "an Attack, FGM(radius) say"
    if not isinstance(attack, Attack | type) and callable(attack):
        wanted += ", or FunctionAttack(function, radius) for a function of your own"
    expect(name, attack, Attack, wanted)


class RandomNoise(Attack):
    """A random perturbation of norm exactly τ: the control of claim C11."""

    worst_case: ClassVar[bool] = False

    def __init__(self, radius: Real, norm: Norm = "l2"):
        self.ball = ball(norm, radius)

    @steady
    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        return self.ball.random(key, batch.x.shape)


class Transfer(Attack):
    """The perturbation that ``attack`` finds against another model (claim C10)."""

    source: Classifier
    attack: Attack

    def __init__(self, source: Classifier, attack: Attack):
        expect("source", source, Classifier, "a model, the first argument of Transfer")
        require_attack("attack", attack)
        self.ball = attack.ball
        self.source, self.attack = source, attack

    def __call__(self, model: Classifier, batch: Batch, *, key: PRNGKey) -> Float[Array, "n d"]:
        return self.attack(self.source, batch, key=key)
