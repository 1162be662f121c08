"""Overlaps and splits against NumPy; the sparse code on planted dictionaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cifar10 import density
from experiments.cifar10.maximise import maximising
from experiments.cifar10.measure import compare

RANDOM = np.random.default_rng(0)


def test_overlaps_and_splits_are_those_of_the_definition(start):
    others = [
        jax.tree.map(lambda leaf: jnp.array(RANDOM.normal(size=leaf.shape), jnp.float32), start)
        for _ in range(2)
    ]
    found = compare(start, *others)
    at = 0
    for name, layer in start.convolutions().items():
        clean, after = (net.convolutions()[name] for net in others)
        for channel in range(layer.weight.shape[-1]):
            rows = [np.asarray(x.weight)[..., channel] for x in (layer, clean, after)]
            first, w, new = (np.asarray(row, np.float64).ravel() for row in rows)

            def cosine(u, v):
                return abs(u @ v) / np.sqrt((u @ u) * (v @ v))

            beta = np.linalg.lstsq(new[:, None], w, rcond=None)[0][0]
            rest = w - beta * new
            expected = (
                cosine(first, new),
                cosine(w, new),
                np.linalg.norm(beta * new) / np.linalg.norm(w),
                np.linalg.norm(rest) / np.linalg.norm(w),
            )
            assert found.layer[at] == name
            np.testing.assert_allclose([column[at] for column in found[1:]], expected, atol=1e-5)
            at += 1
    assert at == len(found.layer)


def test_a_net_overlaps_wholly_with_itself(start):
    found = compare(start, start, start)
    np.testing.assert_allclose(found.theta_clean, 1, atol=1e-6)
    np.testing.assert_allclose(found.removed_norm, 0, atol=1e-3)


def test_patches_are_windows_of_the_images(images):
    found = density.patches(images.pixels, 5, 50, seed=1)
    assert found.shape == (50, 75) and 0 <= found.min() and found.max() <= 1
    windows = np.lib.stride_tricks.sliding_window_view(images.pixels, (5, 5), (1, 2))
    windows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 75)
    have = {window.tobytes() for window in windows}
    assert all(np.round(255 * patch).astype(np.uint8).tobytes() in have for patch in found)


@pytest.mark.parametrize(("mixed", "needed"), [(1, 1), (11, 10), (21, 19)])
def test_atoms_are_counted(mixed, needed):
    """Of n equal orthogonal parts, nine tenths of the energy takes 0.9 n, rounded up."""
    atoms = np.linalg.qr(RANDOM.normal(size=(30, 30)))[0]
    code = density.SparseCode(atoms, np.eye(30), np.eye(30), np.zeros(30))
    signs = RANDOM.choice([-1.0, 1.0], (4, mixed))
    rows = 7 * signs @ atoms[:mixed]
    assert density.atoms_needed(rows, code).tolist() == [needed] * 4


def test_a_planted_sparse_code_is_found():
    """Patches of a known dictionary, seen through a known covariance."""
    size, n = 16, 4000
    atoms = np.linalg.qr(RANDOM.normal(size=(size, size)))[0]
    hidden = RANDOM.normal(size=(n, size)) * (RANDOM.random((n, size)) < 0.15)
    mixing = np.diag(np.linspace(1, 3, size))
    samples = hidden @ atoms @ mixing + 5
    code = density.learn(samples, size, seed=0)
    white = (samples - code.mean) @ code.inverse
    np.testing.assert_allclose(np.cov(white.T), np.eye(size), atol=1e-8)
    np.testing.assert_allclose(code.root @ code.inverse.T, np.eye(size), atol=1e-8)
    own = density.atoms_needed(white[:500], code).mean()
    control = density.atoms_of_control(white[:500], code).mean()
    assert own < 0.6 * control
    # A filter that reads off one hidden coordinate is one atom; a mixture of all is dense.
    readers = np.linalg.inv(atoms @ mixing)
    pure = density.atoms_needed(readers.T @ code.root, code)
    dense = density.atoms_needed(readers.sum(1)[None] @ code.root, code)
    assert np.median(pure) == 1 and dense[0] > 8


def test_scrambling_keeps_the_spectrum():
    rows = RANDOM.normal(size=(5, 40))
    found = density.scrambled(rows, 1)
    np.testing.assert_array_equal(np.abs(found), np.abs(rows))
    assert 0.3 < (np.sign(found) == np.sign(rows)).mean() < 0.7
    # One draw for all networks: the same filters give the same control.
    twice = density.scrambled(np.stack([rows, rows]), 1)
    np.testing.assert_array_equal(twice, np.stack([found, found]))


@pytest.mark.slow
def test_maximising_inputs_drive_their_neuron(start):
    channels, layer = jnp.array([0, 2]), "convolution 1"
    found = maximising(start, layer, channels, key=jax.random.key(0))
    assert found.min() >= 0 and found.max() <= 1 and found.shape == (2, 32, 32, 3)

    def middle(images):
        output = start.look(images)[1][layer]
        return np.asarray(output[jnp.arange(2), 4, 4, channels])

    rivals = jax.random.bernoulli(jax.random.key(1), 0.5, (50, 32, 32, 3)).astype(float)
    best = np.max([middle(jnp.stack([rival] * 2)) for rival in rivals], axis=0)
    assert (middle(found) > best).all()
