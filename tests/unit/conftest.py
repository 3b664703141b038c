"""What keeps the unit tests quick."""

from collections.abc import Iterator
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization


@pytest.fixture(scope="session", autouse=True)
def _validate_each_private_key_once() -> Iterator[None]:
    """Loading an RSA key proves its primes, which takes 30 ms, and the sandbox's tests load the same keys often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "load_pem_private_key", cache(serialization.load_pem_private_key))
        yield
