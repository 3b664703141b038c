"""Events as consumers read them: the same fields as are sent, and room for what a later release adds."""

import json
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Struct, structs

from deploy.contract import examples
from schemas import event_names, events
from schemas.consumer import events as consumer_events
from schemas.consumer.events import HeldState, NotAnEvent, NotedState, OrderState, UnknownType
from schemas.events import Outgoing
from tests.support.paths import ROOT


def sent(name: str) -> Outgoing:
    return event_names.LOGICAL.of(examples.RECORDS[name])


def parsed(outgoing: Outgoing, **members: Any) -> Any:
    value = json.dumps(json.loads(outgoing.value) | members).encode()
    return consumer_events.parse(outgoing.headers, value).data


@pytest.mark.parametrize(
    ("read", "written"),
    [(OrderState, events.OrderEvent), (HeldState, events.HeldNotice), (NotedState, events.NotedNotice)],
)
def test_fields_are_those_that_are_sent(read: type[Struct], written: type[Struct]) -> None:
    always = {field.name for field in structs.fields(written) if field.default is not UNSET}
    assert {*read.__struct_fields__} == {*written.__struct_fields__}
    assert {field.name for field in structs.fields(read) if field.required} == always


@pytest.mark.parametrize("name", examples.RECORDS)
def test_every_example_is_read_with_all_its_members(name: str) -> None:
    outgoing = sent(name)
    event = consumer_events.parse(outgoing.headers, outgoing.value)
    attributes = {header.removeprefix("ce_"): text.decode() for header, text in outgoing.headers}
    assert all(
        getattr(event, each) == attributes[each] for each in ("id", "type", "source", "subject", "time", "dataschema")
    )
    read, given = json.loads(msgspec.json.encode(event.data)), json.loads(outgoing.value)
    assert {member: read[member] for member in given} == given


def test_only_a_paid_order_without_a_flag_is_safe_to_ship() -> None:
    names = ("waiting", "paid", "refunded", "flagged")
    assert [parsed(sent(f"order_event.{name}")).is_safe_to_ship for name in names] == [False, True, False, False]
    assert parsed(sent("order_event.paid"), status="FINISHED").is_safe_to_ship


def test_words_and_members_of_a_later_release_are_no_error() -> None:
    order = parsed(sent("order_event.paid"), flags=["of_tomorrow"], later={"a": 1}, closed_because="tomorrow")
    assert (order.flags, order.is_safe_to_ship) == (("of_tomorrow",), False)


@pytest.mark.parametrize("type_", ["x.order.paid.v2", "x.refund.made.v1", "", "paid"])
def test_type_of_a_later_release_has_an_error_of_its_own(type_: str) -> None:
    headers = {**dict(sent("order_event.paid").headers), "ce_type": type_.encode()}
    with pytest.raises(UnknownType):
        consumer_events.parse(headers.items(), b"{}")


@pytest.mark.parametrize("prefix", ["com.example.pay", "pay"])
def test_prefix_of_the_types_is_the_merchants(prefix: str) -> None:
    headers = {**dict(sent("held_notice.quarantined").headers), "ce_type": f"{prefix}.notification.dead.v1".encode()}
    event = consumer_events.parse(headers.items(), sent("held_notice.quarantined").value)
    assert isinstance(event.data, HeldState)


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_id"])
def test_record_without_attributes_is_no_event(missing: str) -> None:
    headers = [each for each in sent("order_event.paid").headers if each[0] != missing]
    with pytest.raises(NotAnEvent):
        consumer_events.parse(headers, sent("order_event.paid").value)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}"])
def test_value_that_is_no_order_is_no_event(value: bytes | None) -> None:
    with pytest.raises(NotAnEvent):
        consumer_events.parse(sent("order_event.paid").headers, value)


def test_program_on_the_page_of_events_tells_what_to_ship_and_what_to_look_into(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the module as the wheel has it."""
    page = (ROOT / "deploy/docs/events.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    package = ModuleType("alipay_notify")
    package.events = consumer_events  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "alipay_notify", package)
    names: dict[str, Any] = {}
    exec(program, names)
    for name in examples.RECORDS:
        names["changed"](SimpleNamespace(headers=sent(name).headers, value=sent(name).value))
    assert capsys.readouterr().out.splitlines() == [
        "ship ORDER-1 2 1280 USD",
        "look into held:3-1041:0:quarantined amount_mismatch",
    ]
