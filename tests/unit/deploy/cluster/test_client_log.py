"""Reasons of the Kafka client, which it only logs."""

import logging
from collections.abc import Iterator

import pytest

from deploy.cluster import client_log
from deploy.cluster.client_log import ClientLog
from tests.support.clocks import Clock

log = logging.getLogger("aiokafka")


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def reasons(clock: Clock) -> Iterator[ClientLog]:
    with ClientLog(now_s=clock) as reasons:
        yield reasons


def test_trouble_is_explained_by_recent_reasons_only(reasons: ClientLog, clock: Clock) -> None:
    assert reasons.explain("no broker answers") == "no broker answers"
    log.error("Unable connect to node with id %s: %s", 1, "certificate has expired")
    assert reasons.explain(None) is None
    told = "no broker answers (the client logged: node with id 1: certificate has expired)"
    assert reasons.explain("no broker answers") == told
    clock.now_s += client_log.RECENT_S + 1
    assert reasons.explain("no broker answers") == "no broker answers"


def test_last_different_reasons_are_kept(reasons: ClientLog) -> None:
    for number in (1, 2, 3, 1, 4):
        log.error("Unable connect to node with id %s: ", number)
    assert reasons.reasons() == "node with id 3; node with id 1; node with id 4"


def test_lines_without_a_reason_are_no_reasons(reasons: ClientLog) -> None:
    log.warning("Unable connect to node with id 1: refused")
    log.error("Unable to update metadata from [1]")
    logging.getLogger("aiokafka.consumer.fetcher").error("Failed fetch messages from 1")
    assert reasons.reasons() == ""


def test_nothing_is_kept_after_its_end(clock: Clock) -> None:
    with ClientLog(now_s=clock) as reasons:
        pass
    log.error("Unable connect to node with id 1: refused")
    assert reasons.reasons() == ""


def test_client_is_silenced_for_a_while_only(reasons: ClientLog) -> None:
    level = log.level
    with client_log.silenced():
        log.error("Unable connect to node with id 1: ")
    assert (reasons.reasons(), log.level) == ("", level)
