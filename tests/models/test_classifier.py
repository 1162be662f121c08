"""The contract of a model, and the automatic input gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim.models.classifier import Classifier, autodiff_input_gradient


class Cubic(Classifier):
    """f(x) = Σ_j c_j x_j³, plus noise if a key is given."""

    coefficients: jax.Array

    def __call__(self, x, *, key=None):
        noise = 0.0 if key is None else jax.random.normal(key, (len(x),))
        return x**3 @ self.coefficients + noise

    def value_and_input_gradient(self, x, *, key=None):
        return autodiff_input_gradient(self, x, key=key)


def test_a_classifier_must_say_both():
    with pytest.raises(TypeError, match="abstract"):
        Classifier()


@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["exact", "noisy"])
def test_autodiff_input_gradient_is_row_by_row(key):
    model = Cubic(jnp.array([1.0, -2.0, 0.5]))
    x = jax.random.normal(jax.random.key(0), (5, 3))
    value, gradient = model.value_and_input_gradient(x, key=key)
    np.testing.assert_allclose(value, model(x, key=key), rtol=1e-6)
    np.testing.assert_allclose(gradient, 3 * x**2 * model.coefficients[None], rtol=1e-5)
