"""PyTorch's automatic differentiation against the written-out objective and its gradients.

PyTorch computes in float64 from the same float32 numbers, so that only our roundings count; each
tolerance is γ_n times the sum of the absolute values of what is summed (`rounding.gamma`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import FUNCTION, doubtful_gates, gamma, within

from featpur_sim import SymmetricReLU
from featpur_sim.models.losses import loss_sum_and_gradient, regulariser, regulariser_gradient

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.referees

D, M, N = 10, 16, 80


def data(per_neuron):
    rng = np.random.default_rng(5)
    weights, x = rng.normal(size=(M, D)), rng.normal(size=(N, D))
    bias = rng.uniform(0.2, 1.0, M) if per_neuron else np.array(0.6)
    exact = (v.astype(np.float32).astype(float) for v in (weights, bias, x))
    return *exact, rng.choice([-1.0, 0.0, 1.0], size=N)


def terms(weights, bias, x):
    """|⟨w_i,x⟩| + b_i at most, [N, M], after a check that no gate is a close call.

    With |u| within its rounding of b, the gradient could rightly be that of either side.
    """
    assert not doubtful_gates(weights, bias, x).any()
    return np.abs(x) @ np.abs(weights).T + bias


def torch_output(weights, bias, x, sigma_rho):
    """f in float64: the ReLUs of §2, or their expectation over ρ by the closed form."""
    u = x @ weights.T
    if sigma_rho == 0:
        return (torch.relu(u - bias) - torch.relu(-u - bias)).sum(-1)
    normal = torch.distributions.Normal(0.0, 1.0)

    def mean_relu(v):
        s = v / sigma_rho
        return v * normal.cdf(s) + sigma_rho * torch.exp(normal.log_prob(s))

    return (mean_relu(u - bias) - mean_relu(-u - bias)).sum(-1)


@pytest.mark.parametrize("per_neuron", [False, True])
@pytest.mark.parametrize("smoothing", ["none", "closed"])
def test_value_loss_and_gradients(smoothing, per_neuron):
    weights, bias, x, y = data(per_neuron)
    sigma_rho = 0.0 if smoothing == "none" else 0.35
    W, X = (torch.tensor(v, requires_grad=True) for v in (weights, x))
    value = torch_output(W, torch.tensor(bias), X, sigma_rho)
    (in_x,) = torch.autograd.grad(value.sum(), X, retain_graph=True)
    keep = torch.tensor(y) != 0
    losses = torch.nn.functional.softplus(-torch.tensor(y) * value)
    loss = losses[keep].sum()
    (in_w,) = torch.autograd.grad(loss, W)

    network = SymmetricReLU(
        weights.astype(np.float32), bias, sigma_rho=sigma_rho, smoothing=smoothing
    )
    points, labels = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    found, slope = network.value_and_input_gradient(points)
    size = terms(weights, bias, x) + sigma_rho
    # Each neuron sums D products and its threshold; the smooth one, whose slope is ≤ 1, multiplies
    # by Φ and adds σ_ρφ. Then come the 2M terms of f.
    each = gamma(D + 2) + (0 if sigma_rho == 0 else 2 * FUNCTION)
    error = (each + gamma(2 * M)) * size.sum(1)
    within(found, value.detach(), error)
    # A gate is 0 or 1, or two Φ, of slope ≤ 0.4/σ_ρ.
    gate = 0 if sigma_rho == 0 else 2 * (FUNCTION + 0.4 * gamma(D + 4) * size / sigma_rho)
    within(slope, in_x, (gate + gamma(2 * M) * np.ones_like(size)) @ np.abs(weights))
    total, gradient, count = loss_sum_and_gradient(network, points, labels)
    assert int(count) == int(keep.sum()) < N
    # The loss log(1 + e^{−yf}) has the slope p = σ(−yf) in f, which has the slope p(1 − p).
    p = np.where(y == 0, 0, torch.sigmoid(-torch.tensor(y) * value).detach())
    own = gamma(N) + 2 * FUNCTION
    within(total, loss.detach(), p @ error + own * float(loss.detach()))
    sloped = (p * (1 - p) * error + p * own)[:, None] + p[:, None] * gate
    within(gradient, in_w, sloped.T @ np.abs(x) * np.ones_like(weights))
    assert float(jnp.abs(gradient).max()) > 1


def test_sampled_smoothing_given_the_same_noise():
    weights, bias, x, _ = data(False)
    network = SymmetricReLU(weights.astype(np.float32), bias, sigma_rho=0.5, smoothing="sampled")
    key = jax.random.key(3)
    found, slope = network.value_and_input_gradient(jnp.asarray(x, jnp.float32), key=key)
    rho = torch.tensor(np.asarray(0.5 * jax.random.normal(key, (N, M)), float))
    W, X = torch.tensor(weights), torch.tensor(x, requires_grad=True)
    u = X @ W.T
    threshold = torch.tensor(bias)
    value = (torch.relu(u + rho - threshold) - torch.relu(-u + rho - threshold)).sum(-1)
    (in_x,) = torch.autograd.grad(value.sum(), X)
    size = terms(weights, bias, x) + np.abs(rho.numpy())
    for side in (u + rho - threshold, -u + rho - threshold):
        assert np.all(np.abs(side.detach().numpy()) > 2 * gamma(D + 3) * size)
    within(found, value.detach(), (2 * gamma(D + 3 + 2 * M) * size).sum(1))
    within(slope, in_x, 2 * gamma(2 * M) * np.abs(weights).sum(0))


def test_regulariser():
    weights = torch.tensor(data(False)[0], requires_grad=True)
    norms = weights.norm(dim=1)
    value = (norms**2 / 2 + norms**3 / 3).sum()
    (slope,) = torch.autograd.grad(value, weights)
    ours = jnp.asarray(weights.detach().numpy(), jnp.float32)
    # All terms are positive, and a cube has three times the relative error of its norm.
    within(regulariser(ours), value.detach(), 3 * gamma(M + D) * float(value.detach()))
    within(regulariser_gradient(ours), slope, 3 * gamma(D) * slope.abs().numpy())
