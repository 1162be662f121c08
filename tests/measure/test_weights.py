"""The decomposition of the weights: its invariant, planted parts, overlaps, spectra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featpur_sim import SparseCoding, decompose
from featpur_sim.measure.weights import dense_part, overlap, rescaling, summarise, update_spectrum

WSTARS = ["signs", (0.5, 2.0)]
split = eqx.filter_jit(decompose)


def make(d, dictionary="identity", wstar="signs", D=None, seed=0):
    return SparseCoding(
        d=d, k=1, sigma_x=0.1, D=D, wstar=wstar, dictionary=dictionary, key=jax.random.key(seed)
    )


def naive(weights, problem):
    """docs/theory.md §4 neuron by neuron, in float64."""
    d, D = problem.d, problem.D
    M = np.eye(d) if problem.M is None else np.asarray(problem.M, float)
    wstar = np.asarray(problem.wstar, float)
    rows = []
    for w in np.asarray(weights, float):
        c = M.T @ w
        j = int(np.argmax(np.abs(c)))
        others = [i for i in range(D) if i != j]
        kappa = c[others] @ wstar[others] / np.sum(wstar[others] ** 2)
        dense = kappa * M[:, others] @ wstar[others]
        residual = w - c[j] * M[:, j] - dense
        rows.append((j, c[j], kappa, np.linalg.norm(dense), np.linalg.norm(residual)))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("wstar", WSTARS)
@pytest.mark.parametrize(("dictionary", "D"), [("identity", 9), ("haar", 9), ("incoherent", 14)])
def test_decomposition_is_the_definition(dictionary, D, wstar):
    problem = make(9, dictionary, wstar, D)
    weights = jax.random.normal(jax.random.key(1), (25, 9))
    parts = split(weights, problem)
    index, alpha, kappa, dense, residual = naive(weights, problem)
    assert np.array_equal(parts.pure_index, index)
    np.testing.assert_allclose(parts.alpha, alpha, atol=1e-5)
    np.testing.assert_allclose(parts.kappa, kappa, atol=1e-5)
    np.testing.assert_allclose(parts.dense_norm, dense, atol=1e-5)
    np.testing.assert_allclose(parts.residual_norm, residual, atol=1e-5)
    np.testing.assert_allclose(parts.norm, np.linalg.norm(weights, axis=1), rtol=1e-5)
    ratio = kappa / np.abs(alpha) * np.sign(alpha * np.asarray(problem.wstar)[index])
    np.testing.assert_allclose(parts.signed_ratio, ratio, atol=1e-5)
    assert np.array_equal(parts.carrier, np.abs(alpha) >= 0.5 * np.abs(alpha).max())


@settings(max_examples=25)
@given(
    st.sampled_from([(1, 2), (7, 3), (4, 16), (3, 29)]),
    st.sampled_from(["identity", "haar", "dct"]),
    st.sampled_from(WSTARS),
    st.integers(0, 1000),
    st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_norms_add_up_for_unitary_dictionaries(shape, dictionary, wstar, seed, scale):
    problem = make(shape[1], dictionary, wstar, seed=seed)
    weights = scale * jax.random.normal(jax.random.key(seed), shape)
    parts = split(weights, problem)
    total = sum(np.asarray(v, float) ** 2 for v in (parts.alpha, parts.dense_norm,
                                                    parts.residual_norm))  # fmt: skip
    np.testing.assert_allclose(total, np.asarray(parts.norm, float) ** 2, rtol=2e-5)


def test_norms_do_not_add_up_for_overcomplete_ones():
    # The identity is a fact about unitary M, not about the code: it fails where it should.
    problem = make(6, "incoherent", D=12)
    parts = split(jax.random.normal(jax.random.key(1), (20, 6)), problem)
    total = parts.alpha**2 + parts.dense_norm**2 + parts.residual_norm**2
    assert np.abs(np.asarray(total / parts.norm**2) - 1).max() > 0.05


@pytest.mark.parametrize("wstar", WSTARS)
@pytest.mark.parametrize("dictionary", ["identity", "haar"])
def test_planted_parts_are_recovered(dictionary, wstar):
    d = 16
    problem = make(d, dictionary, wstar)
    M = np.eye(d) if problem.M is None else np.asarray(problem.M, float)
    w_star, rng = np.asarray(problem.wstar, float), np.random.default_rng(0)
    index, alpha = rng.permutation(d), rng.uniform(1, 2, d) * rng.choice([-1, 1], d)
    kappa, C, residual = rng.uniform(-0.1, 0.1, d), np.zeros((d, d)), np.zeros((d, d))
    for i, j in enumerate(index):
        rest = w_star.copy()
        rest[j] = 0
        r = 0.05 * rng.normal(size=d)
        r[j] = 0
        r -= rest * (r @ rest) / (rest @ rest)
        residual[i] = r
        C[i] = kappa[i] * rest + r
        C[i, j] = alpha[i]
    parts = split(jnp.asarray(C @ M.T, jnp.float32), problem)
    assert np.array_equal(parts.pure_index, index)
    np.testing.assert_allclose(parts.alpha, alpha, rtol=1e-5)
    np.testing.assert_allclose(parts.kappa, kappa, atol=1e-6)
    np.testing.assert_allclose(parts.residual_norm, np.linalg.norm(residual, axis=1), rtol=1e-4)


def test_removing_the_dense_part_removes_it_and_nothing_else():
    problem = make(16, "haar")
    weights = jax.random.normal(jax.random.key(2), (10, 16)) + 3 * problem.M.T[:10]
    before = split(weights, problem)
    after = split(weights - dense_part(weights, problem), problem)
    np.testing.assert_allclose(after.kappa, 0, atol=1e-6)
    np.testing.assert_allclose(after.alpha, before.alpha, rtol=1e-5)
    np.testing.assert_allclose(after.residual_norm, before.residual_norm, rtol=1e-4)
    assert float(jnp.min(before.dense_norm)) > 1e-3


def test_summary_of_a_planted_network():
    problem = make(8, wstar=np.array([1, -1, 1, 1, -1, 1, 1, 1]))
    wstar = np.asarray(problem.wstar)
    weights = np.zeros((6, 8), np.float32)
    # Five carriers: feature 0 twice, 1, 2, and 3 with the wrong sign; one bystander on feature 4.
    sizes, ratios = [2.0, 2.0, -1.5, 1.0, -1.2, -0.3], [0.1, 0.2, 0.3, -0.1, 0.2, 0.9]
    for i, j in enumerate([0, 0, 1, 2, 3, 4]):
        weights[i] = ratios[i] * abs(sizes[i]) * np.sign(sizes[i] * wstar[j]) * wstar
        weights[i, j] = sizes[i]
    found = {k: float(v) for k, v in summarise(split(jnp.asarray(weights), problem),
                                               problem).items()}  # fmt: skip
    squares = np.array(sizes[:5]) ** 2
    pure = np.zeros_like(weights)
    pure[range(6), [0, 0, 1, 2, 3, 4]] = sizes
    expected = {
        "kappa_over_alpha": 0.2,
        "kappa_over_alpha_mean": np.mean(ratios[:5]),
        "kappa_over_alpha_weighted": np.sum(squares * ratios[:5]) / squares.sum(),
        "dense_norm_over_alpha": 0.2 * np.sqrt(7),
        "residual_norm_over_alpha": 0.0,
        "features_covered": 4 / 8,
        "neurons_per_feature": 5 / 4,
        "carriers": 5 / 6,
        "sign_agreement": 4 / 5,
        "alpha_max": 2.0,
        "purity": 5 / 6,
        "pure_distance": np.sqrt(np.sum((weights - pure) ** 2) / np.sum(weights**2)),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_overlap():
    u = jnp.array([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    v = jnp.array([[0.0, 3.0], [1.0, 0.0], [-5.0, 0.0], [1.0, 1.0], [-4.0, 3.0]])
    np.testing.assert_allclose(overlap(u, v), [0, np.sqrt(0.5), 1, 0, 0], atol=1e-6)
    assert np.array_equal(overlap(u, v), overlap(v, u))


def test_rescaling_is_the_least_squares_split():
    before = jax.random.normal(jax.random.key(3), (12, 7))
    after = jax.random.normal(jax.random.key(4), (12, 7))
    found = rescaling(before, after)
    for w, v, beta, kept, removed in zip(before, after, *found, strict=True):
        solution, square, *_ = np.linalg.lstsq(
            np.asarray(v, float)[:, None], np.asarray(w, float), rcond=None
        )
        assert float(beta) == pytest.approx(solution[0], rel=1e-4)
        assert float(removed) == pytest.approx(np.sqrt(square[0]), rel=1e-4)
        assert float(kept) == pytest.approx(abs(solution[0]) * np.linalg.norm(v), rel=1e-4)


def test_update_spectrum_is_numpys():
    before = jax.random.normal(jax.random.key(5), (12, 7))
    after = jax.random.normal(jax.random.key(6), (12, 7))
    plain, rescaled = update_spectrum(before, after)
    w, v = np.asarray(before, float), np.asarray(after, float)
    beta = (w * v).sum(1) / (v**2).sum(1)
    np.testing.assert_allclose(plain, np.linalg.svd(v - w, compute_uv=False), rtol=1e-4)
    expected = np.linalg.svd(w - beta[:, None] * v, compute_uv=False)
    np.testing.assert_allclose(rescaled, expected, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_planted_update_of_low_rank(rank):
    rng = np.random.default_rng(rank)
    left, right = (np.linalg.qr(rng.normal(size=(n, rank)))[0] for n in (20, 9))
    sizes = np.arange(rank, 0, -1.0)
    before = rng.normal(size=(20, 9))
    after = before + left * sizes @ right.T
    plain, _ = update_spectrum(jnp.asarray(before, jnp.float32), jnp.asarray(after, jnp.float32))
    np.testing.assert_allclose(plain[:rank], sizes, rtol=1e-5)
    assert float(jnp.max(plain[rank:])) < 1e-5


def test_a_pure_rescaling_leaves_nothing_to_remove():
    weights = jax.random.normal(jax.random.key(7), (12, 7))
    factors = jnp.linspace(0.5, 2, 12)[:, None]
    plain, rescaled = update_spectrum(weights, factors * weights)
    assert float(rescaled[0]) < 1e-5 < 0.1 < float(plain[0])


@pytest.mark.parametrize("scale", [2.0**-80, 2.0**80])
def test_squares_neither_overflow_nor_underflow(scale):
    """Float32 ends at 2¹²⁸; a power of two scales every part of the weights exactly."""
    problem = make(16, "haar")
    before = 0.1 * jax.random.normal(jax.random.key(0), (8, 16))
    after = before + 0.02 * jax.random.normal(jax.random.key(1), (8, 16))
    parts, scaled = split(before, problem), split(scale * before, problem)
    for name in ("dense_norm", "residual_norm", "norm"):
        expected = np.asarray(getattr(parts, name)) * scale
        np.testing.assert_allclose(getattr(scaled, name), expected, rtol=1e-5)
    ratio = "kappa_over_alpha_weighted"
    expected = float(summarise(parts, problem)[ratio])
    assert float(summarise(scaled, problem)[ratio]) == pytest.approx(expected, rel=1e-5)
    own, other = rescaling(before, after), rescaling(scale * before, scale * after)
    np.testing.assert_allclose(other.beta, own.beta, rtol=1e-5)
    for name in ("kept_norm", "removed_norm"):
        expected = np.asarray(getattr(own, name)) * scale
        np.testing.assert_allclose(getattr(other, name), expected, rtol=1e-4)
