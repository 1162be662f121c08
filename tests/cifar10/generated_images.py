"""Images made here, and their bytes in CIFAR-10's format, put together record by record."""

import itertools
from pathlib import Path

import numpy as np

from experiments.cifar10.loader import RECORD, Images

# The corners of the cube of colours, and two edges.
PALETTE = np.array([*itertools.product((-1, 1), repeat=3), (1, 0, -1), (-1, 0, 1)])


def generated(n: int, seed: int) -> Images:
    """Noisy images of one colour a class: easy to learn."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(n) % 10).astype(np.int32)
    colour = 128 + 60 * PALETTE[labels][:, None, None]
    noise = generator.integers(-20, 21, (n, 32, 32, 3))
    return Images((colour + noise).astype(np.uint8), labels)


def write(path: Path, images: Images) -> Path:
    """The binary file of some images."""
    records = b"".join(
        bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        for image, label in zip(images.pixels, images.labels, strict=True)
    )
    assert len(records) == RECORD * len(images.labels)
    path.write_bytes(records)
    return path
