"""PyTorch's automatic differentiation against the written-out objective and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SymmetricReLU
from featpur_sim.objective import loss_sum_and_gradient, regulariser, regulariser_gradient

torch = pytest.importorskip("torch")

D, M, N = 10, 16, 80


def data(per_neuron):
    rng = np.random.default_rng(5)
    weights, x = rng.normal(size=(M, D)), rng.normal(size=(N, D))
    bias = rng.uniform(0.2, 1.0, M) if per_neuron else np.array(0.6)
    return weights, bias, x, rng.choice([-1.0, 0.0, 1.0], size=N)


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
    # float32 against float64 over sums of M·D terms of order one.
    np.testing.assert_allclose(found, value.detach(), atol=2e-5)
    np.testing.assert_allclose(slope, in_x, atol=2e-5)
    total, gradient, count = loss_sum_and_gradient(network, points, labels)
    assert int(count) == int(keep.sum()) < N
    np.testing.assert_allclose(total, loss.detach(), rtol=1e-5)
    np.testing.assert_allclose(gradient, in_w, atol=1e-4)
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
    np.testing.assert_allclose(found, value.detach(), atol=2e-5)
    np.testing.assert_allclose(slope, in_x, atol=2e-5)


def test_regulariser():
    weights = torch.tensor(data(False)[0], requires_grad=True)
    norms = weights.norm(dim=1)
    value = (norms**2 / 2 + norms**3 / 3).sum()
    (slope,) = torch.autograd.grad(value, weights)
    ours = jnp.asarray(weights.detach().numpy(), jnp.float32)
    assert float(regulariser(ours)) == pytest.approx(float(value.detach()), rel=1e-5)
    np.testing.assert_allclose(regulariser_gradient(ours), slope, rtol=1e-5, atol=1e-5)
