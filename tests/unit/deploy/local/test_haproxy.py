"""The variables and time limits of the shipped HAProxy configuration."""

import re

import pytest

from deploy.load.generator import IDLE_MAX_S
from deploy.local import haproxy
from deploy.local.haproxy import Backend
from ingest.settings import KEEPALIVE_BEHIND_LOAD_BALANCER_S

ONE = Backend(public="127.0.0.1:1", admin="127.0.0.1:2")


def test_each_receiver_has_two_variables() -> None:
    variables = haproxy.variables([ONE, Backend(public="127.0.0.1:3", admin="127.0.0.1:4")], port=5, stats_port=6)
    assert variables == {
        "PUBLIC": "127.0.0.1:5",
        "STATS": "127.0.0.1:6",
        "RECEIVER_1": "127.0.0.1:1",
        "RECEIVER_1_ADMIN": "127.0.0.1:2",
        "RECEIVER_2": "127.0.0.1:3",
        "RECEIVER_2_ADMIN": "127.0.0.1:4",
    }


def test_configuration_has_as_many_server_lines_as_receivers_max() -> None:
    text = haproxy.CONFIGURATION.read_text(encoding="utf-8")
    assert f'"${{RECEIVER_{haproxy.RECEIVERS_MAX}_ADMIN}}"' in text
    assert f"RECEIVER_{haproxy.RECEIVERS_MAX + 1}" not in text


def test_client_side_closes_an_idle_connection_before_the_server_side() -> None:
    """A request that crosses with a close is lost. HAProxy closes an idle connection after the shorter of two times."""
    times = dict(re.findall(r"^ *timeout (client|http-keep-alive) (\d+)s$", haproxy.CONFIGURATION.read_text(), re.M))
    idle_s = float(times["http-keep-alive"])
    assert idle_s / 2 > IDLE_MAX_S
    assert idle_s <= float(times["client"])
    assert idle_s < KEEPALIVE_BEHIND_LOAD_BALANCER_S / 2


@pytest.mark.parametrize("count", [0, haproxy.RECEIVERS_MAX + 1])
def test_too_few_or_too_many_receivers_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="receivers"):
        haproxy.variables([ONE] * count, port=5, stats_port=6)
