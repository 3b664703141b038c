"""Kafka's IncrementalAlterConfigs, which aiokafka does not speak: it changes the settings that are named and no other.

Its older sister, AlterConfigs, which aiokafka does speak, replaces all of a topic's own settings by those it is given:
whoever sets one thing with it resets everything that was set before. Version 0 is understood by all brokers since 2.3.
"""

from collections.abc import Mapping

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

TOPIC = 2
SET = 0


class IncrementalAlterConfigsResponse_v0(Response):  # type: ignore[misc]  # noqa: N801  the library's way of naming versions
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class IncrementalAlterConfigsRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = IncrementalAlterConfigsResponse_v0
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("config_name", String("utf-8")), ("config_operation", Int8), ("config_value", String("utf-8"))
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class SetTopicConfig(Request[IncrementalAlterConfigsRequest_v0]):  # type: ignore[misc]
    """Set these of one topic's settings."""

    API_KEY = 44

    def __init__(self, topic: str, config: Mapping[str, str]) -> None:
        self._resources = [(TOPIC, topic, [(name, SET, value) for name, value in config.items()])]

    def build(self, request_struct_class: type[IncrementalAlterConfigsRequest_v0]) -> IncrementalAlterConfigsRequest_v0:
        return request_struct_class(self._resources, False)
