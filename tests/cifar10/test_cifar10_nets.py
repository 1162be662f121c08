"""Convolutions and nets: against PyTorch, shapes, sizes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import gamma, within
from torch_twin import channels_first, rounded_look, tensor, torch

from experiments.cifar10 import nets
from experiments.cifar10.convolution import Convolution

pytestmark = pytest.mark.referees
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def resnet():
    return nets.build("resnet", width=4, depth=1, stride=2, key=KEY)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_convolution_and_both_gradients_are_pytorchs(size, stride):
    layer = Convolution(4, 6, size, stride, key=KEY)
    layer = eqx.tree_at(lambda c: c.bias, layer, jnp.arange(6.0))
    x = jax.random.normal(KEY, (2, 8, 12, 4))
    value, pullback = jax.vjp(lambda layer, x: layer(x), layer, x)
    push = jax.random.normal(jax.random.key(1), value.shape)
    of_layer, of_x = pullback(push)

    def pytorchs(x, weight, bias, push):
        """The output and its pullback, in float64."""
        parts = (channels_first(x), tensor(weight).permute(3, 2, 0, 1), tensor(bias))
        parts = [part.double().requires_grad_() for part in parts]
        output = torch.nn.functional.conv2d(*parts, stride, size // 2)
        output.backward(channels_first(push).double())
        last = [output.detach(), *(part.grad for part in parts[:2])]
        orders = [(0, 2, 3, 1), (0, 2, 3, 1), (2, 3, 1, 0)]
        return *(v.permute(order) for v, order in zip(last, orders, strict=True)), parts[2].grad

    given = (x, layer.weight, layer.bias, push)
    # With absolute values everywhere, the sum of what each number is a sum of.
    sizes = pytorchs(*map(jnp.abs, given))
    # Up to 5·5·4 + 1, 5·5·6, 2·8·12 and 2·8·12 terms.
    for ours, theirs, sum_of in zip(
        (value, of_x, of_layer.weight, of_layer.bias), pytorchs(*given), sizes, strict=True
    ):
        within(ours, theirs, gamma(2 * 8 * 12) * sum_of.numpy())


def test_filters_are_rows_over_the_patch():
    layer = Convolution(2, 3, 3, key=KEY)
    assert layer.filters().shape == (3, 18)
    np.testing.assert_array_equal(layer.filters()[1].reshape(3, 3, 2), layer.weight[..., 1])


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 3)])
def test_a_convolution_refuses_what_it_cannot_do(size, stride):
    with pytest.raises(ValueError, match="size must be odd and stride 1 or 2"):
        Convolution(1, 1, size, stride, key=KEY)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_alexnet_is_its_twin_in_pytorch(images, stride):
    network = nets.build("alexnet", width=4, depth=1, stride=stride, key=KEY)
    x = images.pixels[:5].astype(np.float32) / 255
    (logits, error), _ = rounded_look(network, x, images.labels[:5])
    within(network(x), logits, error[:, None])
    assert (error < 1e-3 * np.abs(logits).max(1)).all()


def test_the_resnet_shows_every_convolution():
    def look(key, x):
        network = nets.build("resnet", width=4, depth=2, stride=2, key=key)
        return *network.look(x), network.convolutions()

    x = jax.ShapeDtypeStruct((3, 32, 32, 3), jnp.float32)
    logits, seen, convolutions = eqx.filter_eval_shape(look, KEY, x)
    assert logits.shape == (3, 10)
    # Two in each of six blocks, and a shortcut where the second and third stage begin.
    assert set(seen) == set(convolutions) and len(seen) == 1 + 6 * 2 + 2
    assert seen["stem"].shape == (3, 16, 16, 4)
    assert seen["block 5 second"].shape == (3, 4, 4, 16)


def test_a_residual_branch_starts_closed_and_its_gain_learns(resnet):
    x = jax.random.uniform(KEY, (3, 32, 32, 3))
    assert not any(float(block.gain) for block in resnet.blocks)
    shut = eqx.tree_at(lambda n: n.blocks[0].second.weight, resnet, replace_fn=jnp.zeros_like)
    value = eqx.filter_jit(eqx.filter_value_and_grad(lambda n: jnp.sum(n(x) ** 2)))
    (one, gradient), (other, _) = value(resnet), value(shut)
    assert one == other
    assert all(float(block.gain) != 0 for block in gradient.blocks)


def test_logits_depend_on_the_image_alone(resnet):
    x = jax.random.uniform(KEY, (4, 32, 32, 3))
    logits = eqx.filter_jit(lambda network, x: network(x))
    first = logits(resnet, x)
    others = logits(resnet, x.at[1:].set(0.5))
    np.testing.assert_allclose(first[0], others[0], rtol=1e-5, atol=1e-6)
    assert np.abs(first[1] - others[1]).max() > 1e-3
