"""The small network that several tests of the certificates share."""

import pytest
from small_networks import random_network


@pytest.fixture
def small():
    return random_network(0, width=24, size=8, count=40)
