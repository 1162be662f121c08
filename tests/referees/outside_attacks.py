"""Attacks of other libraries on our networks in PyTorch, and the networks they are tried on.

A point counts as found by an outside attack if its perturbation, scaled back into the ball, breaks
*our* model: no referee wins by leaving the ball.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from featpur_sim import SymmetricReLU
from featpur_sim.attacks._search import inside_ball

torch = pytest.importorskip("torch")


class TwoLogits(torch.nn.Module):
    """(−f, f) of the network in PyTorch."""

    def __init__(self, network):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor(np.asarray(network.weights)))
        self.bias = torch.tensor(np.asarray(network.bias))

    def forward(self, x):
        u = x @ self.weights.T
        f = (torch.relu(u - self.bias) - torch.relu(-u - self.bias)).sum(-1)
        return torch.stack([-f, f], -1)


def art_auto_pgd(network, x, label, radius, norm):
    """Croce & Hein's attack as ART has it: cross-entropy, five random starts of 100 steps."""
    from art.attacks.evasion import AutoProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        TwoLogits(network), torch.nn.CrossEntropyLoss(), input_shape=x.shape[1:], nb_classes=2
    )
    attack = AutoProjectedGradientDescent(
        estimator,
        norm={"l2": 2, "linf": np.inf}[norm],
        eps=radius,
        eps_step=2 * radius,
        max_iter=100,
        nb_random_init=5,
        batch_size=len(x),
        loss_type="cross_entropy",
        verbose=False,
    )
    yield "ART AutoPGD", attack.generate(x, np.eye(2, dtype=np.float32)[label])


def foolbox_attacks(network, x, label, radius, norm):
    """Fixed-radius PGD, and searches for the least perturbation."""
    import foolbox

    model = foolbox.PyTorchModel(TwoLogits(network).eval(), bounds=(-10, 10))
    attacks = {
        "l2": {
            "PGD": foolbox.attacks.L2PGD(steps=100),
            "DDN": foolbox.attacks.DDNAttack(steps=200),
            "FMN": foolbox.attacks.L2FMNAttack(steps=200),
            "DeepFool": foolbox.attacks.L2DeepFoolAttack(steps=50),
        },
        "linf": {
            "PGD": foolbox.attacks.LinfPGD(steps=100),
            "FMN": foolbox.attacks.LInfFMNAttack(steps=200),
            "DeepFool": foolbox.attacks.LinfDeepFoolAttack(steps=50),
        },
    }[norm]
    for name, attack in attacks.items():
        _, points, _ = attack(model, torch.tensor(x), torch.tensor(label), epsilons=radius)
        yield f"Foolbox {name}", points.numpy()


def outside(network, batch, radius, norm):
    """Name of an outside attack and its perturbations, inside our ball."""
    x, y = np.asarray(batch.x), np.asarray(batch.y)
    label = (y > 0).astype(np.int64)
    for source in (art_auto_pgd, foolbox_attacks):
        for name, points in source(network, x, label, radius, norm):
            yield name, inside_ball(np.nan_to_num(points) - x, radius, norm)


def planted_networks(problem, mixed_network):
    """With dense mixtures (as after clean training), nearly without, and neither: rugged."""
    key = jax.random.key(41)
    pure = jnp.eye(problem.d) * problem.wstar[:, None]
    few = jnp.concatenate([pure, 0.8 * pure]) + 0.01 * problem.wstar
    noise = jax.random.normal(key, mixed_network.weights.shape)
    return {
        "mixed": mixed_network,
        "purified": SymmetricReLU(few + 0.02 * noise, 0.25),
        "rugged": SymmetricReLU(mixed_network.weights + 0.15 * noise, 0.4),
    }
