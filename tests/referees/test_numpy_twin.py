"""A naive float64 twin of training, equation by equation from docs/theory.md §2–§3.

Loops over samples and neurons, no vector tricks, nothing shared with the package. What float32 may
do to the package's result is measured on the twin: a sum of n rounded products is the exact sum of
factors off by some √n u (Higham, Accuracy and Stability of Numerical Algorithms, 2002, §3.1, and
for the root `torch_twin.Rounded`), so a training in float32 is like one whose weights are shaken by
that before every step, with the gates that this opens and the directions that it turns.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from canned import CannedProblem
from rounding import UNIT, gamma, within

from featpur_sim import FGM, AdversarialPhase, CleanPhase, SparseCoding, SymmetricReLU, train
from featpur_sim.training.bias import LinearRamp, PerNeuron

D, M, N, STEPS = 8, 12, 60, 4
RATE, DECAY = 0.5, 0.05
KEY = jax.random.key(70)


def relu(value):
    return max(value, 0.0)


def output(W, b, x):
    """§2: f(x) = Σ_i ReLU(⟨w_i,x⟩ − b_i) − ReLU(−⟨w_i,x⟩ − b_i)."""
    return sum(relu(w @ x - b_i) - relu(-(w @ x) - b_i) for w, b_i in zip(W, b, strict=True))


def input_gradient(W, b, x):
    """§3: ∇ₓf = Σ_{i: |⟨w_i,x⟩| > b_i} w_i."""
    total = np.zeros(len(x))
    for w, b_i in zip(W, b, strict=True):
        if abs(w @ x) > b_i:
            total += w
    return total


def fgm(W, b, x, y, radius, norm):
    """§3: δ = −yτ∇f/‖∇f‖₂, or −yτ sign ∇f."""
    gradient = input_gradient(W, b, x)
    if norm == "linf":
        return -y * radius * np.sign(gradient)
    length = np.sqrt(gradient @ gradient)
    return -y * radius * gradient / length if length > 0 else np.zeros(len(x))


def step(W, b, X, Y):
    """§3: w_i ← w_i − η(∂/∂w_i mean log(1 + e^{−yf}) + λ(1 + ‖w_i‖)w_i), over labelled samples."""
    gradient, labelled = np.zeros_like(W), 0
    for x, y in zip(X, Y, strict=True):
        if y == 0:
            continue
        labelled += 1
        slope = -y / (1 + np.exp(y * output(W, b, x)))
        for i, w in enumerate(W):
            if abs(w @ x) > b[i]:
                gradient[i] += slope * x
    new = W.copy()
    for i, w in enumerate(W):
        new[i] = w - RATE * (gradient[i] / labelled + DECAY * (1 + np.sqrt(w @ w)) * w)
    return new


def ramp(t):
    """One threshold, 0.05 → 0.3 over the first half of the phase."""
    return lambda W, dictionary: np.full(M, 0.05 + 0.25 * min(t / (0.5 * STEPS), 1.0))


def per_neuron(t):
    """§7.1: b_i = ν max_j|⟨w_i,M_j⟩|, ν from 0.9 to 0.3 as t′ = ηt/d goes from 0.05 to 0.2."""
    nu = 0.9 + (0.3 - 0.9) * np.clip((RATE * t / D - 0.05) / 0.15, 0, 1)
    return lambda W, dictionary: np.array(
        [nu * max(abs(w @ column) for column in dictionary.T) for w in W]
    )


SCHEDULES = {
    "ramp": (ramp, LinearRamp(0.3, start=0.05, fraction=0.5)),
    "per neuron": (per_neuron, PerNeuron(0.3, start=0.9, begin=0.05, end=0.2)),
}


def twin(W, X, Y, schedule, dictionary, norm, shaken=lambda W: W):
    """A clean phase, then an FGM phase with the threshold where the first left it."""
    paths = {}
    for t in range(STEPS):
        W = shaken(W)
        W = step(W, schedule(t)(W, dictionary), X, Y)
    b = schedule(STEPS)(W, dictionary)
    paths["clean"] = (W, b)
    for _ in range(STEPS):
        W = shaken(W)
        moved = [x + fgm(W, b, x, y, 0.2, norm) for x, y in zip(X, Y, strict=True)]
        W = step(W, b, moved, Y)
    paths["adversarial"] = (W, b)
    return paths


def rounding_of(*arguments):
    """The twin, and how far float32 may be off by phase, in weights and thresholds.

    Six times the most that four shaken trainings show, by the rounding of the longest sums, over N.
    """
    rng, exact, off = np.random.default_rng(0), twin(*arguments), {}
    for _ in range(4):
        shaken = twin(*arguments, lambda W: W * (1 + N**0.5 * UNIT * rng.uniform(-1, 1, W.shape)))
        for phase, parts in shaken.items():
            change = [np.abs(v - e).max() for v, e in zip(parts, exact[phase], strict=True)]
            off[phase] = np.maximum(off.get(phase, 0), 6 * np.array(change))
    return exact, off


def slow(*case):
    return pytest.param(*case, marks=pytest.mark.slow)


# Every value of every choice by default; the other combinations with the slow tests.
@pytest.mark.parametrize(
    ("name", "dictionary", "norm"),
    [
        ("ramp", "identity", "l2"),
        ("per neuron", "haar", "l2"),
        ("per neuron", "identity", "linf"),
        slow("ramp", "identity", "linf"),
        slow("ramp", "haar", "l2"),
        slow("ramp", "haar", "linf"),
        slow("per neuron", "identity", "l2"),
        slow("per neuron", "haar", "linf"),
    ],
)
def test_training_is_its_equations(name, dictionary, norm):
    schedule, bias = SCHEDULES[name]
    problem = SparseCoding(d=D, k=4, sigma_x=0.3, dictionary=dictionary, key=jax.random.key(1))
    batch = problem.sample(jax.random.key(2), N)
    start = np.asarray(0.3 * jax.random.normal(jax.random.key(3), (M, D)), float)
    X, Y = np.asarray(batch.x, float), np.asarray(batch.y, float)
    assert 0 < np.sum(Y == 0) < N / 2
    columns = np.eye(D) if problem.M is None else np.asarray(problem.M, float)
    expected, off = rounding_of(start, X, Y, schedule, columns, norm)

    network = SymmetricReLU(start.astype(np.float32), jnp.zeros(M if name != "ramp" else ()))
    settings = {"batch": N, "learning_rate": RATE, "weight_decay": DECAY}
    run = train(
        CannedProblem(problem, batch),
        network,
        [CleanPhase(STEPS, bias=bias, **settings),
         AdversarialPhase(FGM(0.2, norm), STEPS, **settings)],
        key=KEY,
        records=2,
    )  # fmt: skip
    before = start
    for phase, (W, b) in expected.items():
        found = run.networks[phase]
        # The shaking has no part in a schedule that depends on the step alone.
        within(found.weights, W, off[phase][0])
        within(np.broadcast_to(found.bias, M), b, off[phase][1] + 4 * UNIT)
        # And it changed no gate, which would hide a percent of a step.
        assert off[phase].max() < 1e-4 and np.abs(W - before).max() > 0.05
        before = W


def test_the_cubic_part_of_the_regulariser_is_there():
    """With no sample labelled only λ(1 + ‖w‖)w acts; a quadratic one would leave another norm."""
    problem = SparseCoding(d=D, k=4, sigma_x=0.3)
    batch = problem.sample(jax.random.key(2), N)
    canned = CannedProblem(problem, batch._replace(y=jnp.zeros(N)))
    weights = np.asarray(2 * jax.random.normal(jax.random.key(4), (M, D)), float)
    run = train(
        canned,
        SymmetricReLU(weights.astype(np.float32), 0.1),
        [CleanPhase(STEPS, batch=N, learning_rate=RATE, weight_decay=DECAY)],
        key=KEY,
        records=2,
    )
    for _ in range(STEPS):
        norms = np.sqrt((weights**2).sum(1, keepdims=True))
        weights = weights - RATE * DECAY * (1 + norms) * weights
    # Each step sums D squares, takes a root, and multiplies and subtracts.
    within(run.network.weights, weights, STEPS * gamma(D + 8) * np.abs(weights))
