"""f against its definition, its gradients, the three kinds of smoothing, and the initial law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from featpur_sim import SymmetricReLU, initialise
from featpur_sim.models.losses import loss_sum_and_gradient
from featpur_sim.models.symmetric_relu import pure_network, with_readout

M_NEURONS, DIMENSION = 13, 6


def make(smoothing="none", per_neuron=False, sigma_rho=0.3, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(M_NEURONS, DIMENSION)).astype(np.float32)
    bias = rng.uniform(0.1, 1.0, M_NEURONS).astype(np.float32) if per_neuron else np.float32(0.6)
    rho = 0.0 if smoothing == "none" else sigma_rho
    return SymmetricReLU(weights, bias, sigma_rho=rho, smoothing=smoothing)


def points(n=40):
    return jax.random.normal(jax.random.key(1), (n, DIMENSION))


def definition(network, x, rho=0.0):
    """Σ_i ReLU(u_i + ρ_i − b_i) − ReLU(−u_i + ρ_i − b_i) in float64."""
    u = np.asarray(x, float) @ np.asarray(network.weights, float).T
    b = np.asarray(network.bias, float)
    return (np.maximum(u + rho - b, 0) - np.maximum(-u + rho - b, 0)).sum(-1)


@pytest.mark.parametrize("per_neuron", [False, True])
def test_value_is_the_definition(per_neuron):
    network, x = make(per_neuron=per_neuron), points()
    np.testing.assert_allclose(network(x), definition(network, x), atol=1e-5)


@pytest.mark.parametrize("smoothing", ["none", "closed"])
def test_value_is_odd(smoothing):
    network, x = make(smoothing, per_neuron=True), points()
    np.testing.assert_allclose(network(-x), -network(x), atol=1e-5)


@pytest.mark.parametrize("per_neuron", [False, True])
@pytest.mark.parametrize("smoothing", ["none", "sampled", "closed"])
def test_input_gradient_is_autodiffs(smoothing, per_neuron):
    network, x, key = make(smoothing, per_neuron), points(), jax.random.key(2)
    value, gradient = network.value_and_input_gradient(x, key=key)
    np.testing.assert_allclose(value, network(x, key=key), atol=1e-5)
    expected = jax.grad(lambda x: jnp.sum(network(x, key=key)))(x)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_gate_at_the_kink_and_at_zero_is_closed():
    network = SymmetricReLU(np.eye(2, dtype=np.float32), 0.5)
    x = jnp.array([[0.5, 0.0], [-0.5, 0.5000001]])
    value, gradient = network.value_and_input_gradient(x)
    assert np.array_equal(gradient, [[0, 0], [0, 1]])
    np.testing.assert_allclose(value, [0, 1e-7], atol=1e-7)
    assert np.array_equal(network.active(x), [[False, False], [False, True]])
    unbiased = SymmetricReLU(np.eye(2, dtype=np.float32), 0.0)
    assert not unbiased.value_and_input_gradient(jnp.zeros((1, 2)))[1].any()


def test_closed_form_is_the_mean_of_sampled_evaluations():
    # One neuron and one point per row: |u| below, near and above b, and u = 0 (value 0 by oddness).
    u = np.array([0.0, 0.1, 0.5, 0.8, -0.4, 1.5], np.float32)
    draws = 400_000
    for value in u:
        sampled = SymmetricReLU([[1.0]], 0.5, sigma_rho=0.4, smoothing="sampled")
        closed = SymmetricReLU([[1.0]], 0.5, sigma_rho=0.4, smoothing="closed")
        x = jnp.full((draws, 1), value)
        found, slope = sampled.value_and_input_gradient(x, key=jax.random.key(3))
        expected, gate = closed.value_and_input_gradient(x[:1])
        for samples, mean in ((found, expected), (slope[:, 0], gate[:, 0])):
            error = 4 * float(np.std(samples)) / np.sqrt(draws)
            assert error < 0.005
            assert abs(float(np.mean(np.asarray(samples, float))) - float(mean[0])) <= error


def test_sampled_noise_is_shared_by_both_halves_and_fresh_for_each_neuron_row_and_key():
    network = SymmetricReLU(np.ones((3, 1)), 0.0, sigma_rho=1.0, smoothing="sampled")
    # ReLU(u + ρ) − ReLU(−u + ρ) = 2u where ρ > |u|: only if both halves see one ρ.
    u = 1e-3
    x = jnp.full((20_000, 1), u)
    _, gate = network.output_and_gate(network.preactivations(x), key=jax.random.key(4))
    assert set(np.unique(gate)) == {0.0, 1.0, 2.0}
    assert np.mean(gate == 2) == pytest.approx(0.5, abs=0.02)
    correlation = np.corrcoef(np.asarray(gate).T) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    again = network(x, key=jax.random.key(5))
    assert not np.array_equal(network(x, key=jax.random.key(4)), again)


def test_closed_form_tends_to_the_soft_threshold():
    # Each ReLU is off by at most σφ(0), and by nothing that float32 sees 6σ away from the kink.
    exact, x = make(), points(200)
    u = np.abs(np.asarray(exact.preactivations(x)))
    for sigma in (0.1, 0.01, 0.001):
        gap = np.abs(np.asarray(make("closed", sigma_rho=sigma)(x) - exact(x)))
        assert gap.max() <= M_NEURONS * sigma * stats.norm.pdf(0) + 1e-5
        far = np.all(np.abs(u - 0.6) > 6 * sigma, axis=1)
        assert sigma > 0.01 or (far.any() and gap[far].max() < 1e-5)
    assert gap.max() < 1e-3 < np.abs(np.asarray(make("closed", sigma_rho=0.3)(x) - exact(x))).max()


def test_sampled_smoothing_needs_a_key():
    with pytest.raises(ValueError, match="sampled ρ needs key="):
        make("sampled")(points())


def test_initial_weights_are_gaussian():
    network = initialise(50, 4000, sigma_0=0.02, bias=0.1, key=jax.random.key(6))
    weights = np.asarray(network.weights)
    assert (network.m, network.d, network.bias.shape) == (4000, 50, ())
    assert stats.kstest(weights.ravel() / 0.02, "norm").pvalue > 1e-4
    assert weights.std() == pytest.approx(0.02, rel=4 / np.sqrt(2 * weights.size))
    assert float(network.bias) == pytest.approx(0.1)


def test_initial_bias_per_neuron():
    network = initialise(5, 7, bias=0.1, per_neuron_bias=True, key=jax.random.key(6))
    np.testing.assert_allclose(network.bias, np.full(7, 0.1), rtol=1e-6)


def test_pure_network_thresholds_the_coordinates_of_the_dictionary():
    M = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0].astype(np.float32)
    wstar = np.array([1, -1, 2, -0.5, 1], np.float32)
    x = points()[:, :5]
    s = np.asarray(x, float) @ M * wstar
    expected = (np.sign(s) * np.maximum(np.abs(s) - 0.3, 0)).sum(-1)
    found = pure_network(jnp.asarray(wstar), 0.3, jnp.asarray(M))(x)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    plain = pure_network(jnp.asarray(wstar), 0.3)
    np.testing.assert_allclose(plain.weights, np.diag(wstar))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smoothing": "soft"}, "smoothing must be 'none', .* got 'soft'"),
        ({"smoothing": "closed"}, "smoothing='closed' needs sigma_rho > 0, got 0.0"),
        (
            {"smoothing": "sampled", "sigma_rho": -1.0},
            "sigma_rho must be ≥ 0 .*, got -1.0",
        ),
        ({"sigma_rho": 0.1}, "sigma_rho=0.1 has no effect with smoothing='none'"),
        ({"bias": np.zeros(4)}, r"bias must have shape \(\) or \(3,\), got \(4,\)"),
    ],
)
def test_network_refuses(arguments, message, unchecked):
    with pytest.raises(ValueError, match=message):
        SymmetricReLU(np.ones((3, 2)), **{"bias": 0.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"m": 0}, "m must be an integer ≥ 1 .*, got 0"),
        ({"sigma_0": 0.0}, "sigma_0 must be > 0 and finite .*, got 0.0"),
        ({"sigma_0": float("nan")}, "sigma_0 must be > 0 and finite .*, got nan"),
        ({"bias": -0.1}, "bias must be ≥ 0 and finite .*, got -0.1"),
    ],
)
def test_initialise_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialise(**{"d": 4, "m": 8, "key": jax.random.key(0), **arguments})


class Cubed(SymmetricReLU):
    """f³: a subclass that overrides what it computes and nothing else."""

    def __call__(self, x, *, key=None):
        return super().__call__(x, key=key) ** 3


def test_a_subclass_is_differentiated_as_what_it_computes():
    plain, x = make(per_neuron=True), points()
    cubed = Cubed(plain.weights, plain.bias)
    value, gradient = cubed.value_and_input_gradient(x)
    f, slope = plain.value_and_input_gradient(x)
    np.testing.assert_allclose(value, f**3, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, 3 * f[:, None] ** 2 * slope, rtol=1e-4, atol=1e-4)
    assert cubed.smoothed(jnp.float32(0.3)) is cubed
    y = jnp.sign(f)
    loss, found, count = loss_sum_and_gradient(cubed, x, y)

    def total(weights):
        return jnp.sum(jnp.where(y != 0, jax.nn.softplus(-y * Cubed(weights, plain.bias)(x)), 0))

    expected, expected_gradient = jax.value_and_grad(total)(plain.weights)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert int(count) == int(jnp.sum(y != 0))
    np.testing.assert_allclose(found, expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.float16, jnp.bfloat16, list])
def test_weights_of_any_real_dtype_become_float32(dtype, unchecked):
    wstar = [1, -1] if dtype is list else np.array([1, -1], np.dtype(dtype))
    found = pure_network(wstar, bias=0.5)(jnp.array([[0.7, -0.9]]))
    np.testing.assert_allclose(found, [0.6], rtol=1e-6)
    rows = np.eye(2).tolist() if dtype is list else np.eye(2, dtype=np.dtype(dtype))
    closed = SymmetricReLU(rows, np.float64(0.5), sigma_rho=0.1, smoothing="closed")
    assert closed.weights.dtype == closed.bias.dtype == closed.sigma_rho.dtype == jnp.float32
    assert np.isfinite(closed(jnp.array([[0.7, -0.9]]))).all()


@pytest.mark.parametrize(
    ("weights", "bias", "message"),
    [
        (np.ones((3, 2)), -0.1, "bias must be ≥ 0 and finite .*, got -0.1"),
        (np.ones((3, 2)), [0.1, np.nan, 0.2], "bias must be .*, got nan among its entries"),
        (np.ones((3, 2)), True, "bias must be a number or an array of numbers, got True"),
        (np.full((3, 2), np.inf), 0.1, "weights must be finite .*, got inf among its entries"),
        (np.ones((0, 2)), 0.1, r"weights must be a non-empty array of 2 dim.*shape \(0, 2\)"),
        (np.ones(3), 0.1, r"weights must be a non-empty array of 2 dim.*shape \(3,\)"),
        ([["a"]], 0.1, "weights must be a number or an array of numbers"),
    ],
)
def test_network_refuses_values(weights, bias, message, unchecked):
    with pytest.raises(ValueError, match=message):
        SymmetricReLU(weights, bias)


@pytest.mark.parametrize("width", [-0.1, float("nan")])
def test_a_width_of_smoothing_is_a_size(width):
    with pytest.raises(ValueError, match="width must be"):
        SymmetricReLU(jnp.eye(3), 0.1).smoothed(width)


def soft_threshold(u, b):
    return np.sign(u) * np.maximum(np.abs(u) - b, 0)


def test_output_weights_move_into_the_hidden_ones_exactly():
    """Small integers: every product is exact in float32, so both sides are the same number."""
    rng = np.random.default_rng(3)
    W, x = rng.integers(-9, 10, (M_NEURONS, DIMENSION)), rng.integers(-9, 10, (200, DIMENSION))
    b, a = rng.integers(0, 40, M_NEURONS), rng.integers(-5, 6, M_NEURONS)
    assert (a == 0).any() and (a < 0).any() and (a > 1).any()
    for thresholds in (b, b[0]):
        folded = with_readout(SymmetricReLU(W, thresholds), a)
        inside = np.asarray(folded.weights, float), np.asarray(folded.bias, float)
        u = x.astype(float) @ W.T
        expected = soft_threshold(u, thresholds) @ a
        assert np.array_equal(soft_threshold(x @ inside[0].T, inside[1]).sum(1), expected)
        assert np.array_equal(folded(jnp.asarray(x, jnp.float32)), expected)
        gradient = folded.value_and_input_gradient(jnp.asarray(x, jnp.float32))[1]
        assert np.array_equal(gradient, ((np.abs(u) > thresholds) * a) @ W)


@pytest.mark.parametrize("smoothing", ["sampled", "closed"])
def test_output_weights_scale_the_noise(smoothing):
    network, x, key = make(smoothing, per_neuron=True), points(), jax.random.key(2)
    a = np.linspace(-2, 2, M_NEURONS).astype(np.float32)
    a[M_NEURONS // 2] = 0
    alone = SymmetricReLU(np.eye(M_NEURONS), network.bias, sigma_rho=0.3, smoothing=smoothing)
    # Neuron by neuron: the others, at u = 0, add nothing.
    u = network.preactivations(x)
    each = np.stack(
        [alone.output_and_gate(u * (np.arange(M_NEURONS) == i), key=key)[0] for i in range(len(a))]
    )
    found = with_readout(network, a)(x, key=jax.random.key(2))
    np.testing.assert_allclose(found, a @ each, atol=1e-4)


def test_bad_readouts():
    with pytest.raises(ValueError, match="one entry for each of the 13 neurons, got 12"):
        with_readout(make(), np.ones(M_NEURONS - 1))

    class Other(SymmetricReLU):
        pass

    with pytest.raises(ValueError, match="is a Other: .* not of a subclass"):
        with_readout(Other(np.eye(2), 0.1), np.ones(2))
