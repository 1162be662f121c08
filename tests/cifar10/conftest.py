"""Generated data, and the real subset where there is one."""

import os
from pathlib import Path

import jax
import pytest
from generated_images import generated, write

from experiments.cifar10 import nets
from experiments.cifar10.training import Schedule, train

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10-subset"


@pytest.fixture(scope="session")
def images():
    """100 generated images."""
    return generated(100, 0)


@pytest.fixture(scope="session")
def start():
    """A small net before training."""
    return nets.build("alexnet", width=4, depth=1, stride=2, key=jax.random.key(0))


@pytest.fixture(scope="session")
def learning(start, images):
    """That net after training on the generated images, and the loss of every epoch."""
    losses = []
    learned = train(
        start,
        images,
        Schedule(epochs=60, batch=20, learning_rate=0.01, weight_decay=1e-4),
        key=jax.random.key(0),
        report=lambda epoch, epochs, loss: losses.append(loss),
    )
    return learned, losses


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """Two training files of 30 and 50 records and a test file of 20."""
    folder = tmp_path_factory.mktemp("cifar10")
    write(folder / "data_batch_1.bin", generated(30, 1))
    write(folder / "data_batch_2.bin", generated(50, 2))
    write(folder / "test_batch.bin", generated(20, 3))
    return folder


@pytest.fixture(scope="session")
def real_folder():
    """Real images, where FEATPUR_CIFAR10 says or beside the checkout; else the test is skipped."""
    folder = Path(os.environ.get("FEATPUR_CIFAR10", REAL))
    if not (folder / "test_batch.bin").is_file():
        pytest.skip(f"no CIFAR-10 in {folder}: set FEATPUR_CIFAR10 to a folder of its binary files")
    return folder
