"""The publisher that the tests of publisher and supervisor share."""

from collections.abc import AsyncIterator

import pytest

from tests.support.kafka_publisher import Kit


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    kit = Kit()
    yield kit
    for producer in kit.built:
        for delivered in producer.under_way:
            delivered.cancel()
    await kit.publisher.stop()
