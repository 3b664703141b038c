"""Resends in flight: which requests an acknowledgement answers. The statements: tests/contract/test_state_resend.py."""

from schemas import topics
from schemas.events import Outgoing
from workers.postgres.state_resend import ResendRequest, StateResends


def request(number: int, *, newest: int) -> ResendRequest:
    state = Outgoing(id=f"shop:N1:{newest}", topic=topics.ORDER_STATE, key=b"shop:N1", value=b"{}", headers=())
    return ResendRequest(number=number, reserved_until_ms=5, newest=newest, state=state)


def test_requests_of_one_order_are_answered_by_one_send() -> None:
    resends = StateResends()
    requests = [request(1, newest=3), request(7, newest=7), request(2, newest=3)]
    assert [(number, event.id) for number, event in resends.start(requests)] == [(3, "shop:N1:3"), (7, "shop:N1:7")]
    assert [each.number for each in resends.acknowledged([3])] == [1, 2]
    assert resends.acknowledged([1, 2, 99]) == []


def test_acknowledged_request_stays_until_it_is_forgotten() -> None:
    resends = StateResends()
    resends.start([request(1, newest=3)])
    assert resends.acknowledged([3]) == resends.acknowledged([3]) == [request(1, newest=3)]
    resends.forget([3, 4])
    assert resends.acknowledged([3]) == []


def test_next_start_drops_requests_without_acknowledgement() -> None:
    resends = StateResends()
    resends.start([request(1, newest=3)])
    assert resends.start([]) == []
    assert resends.acknowledged([3]) == []
