"""Sentences in Chinese: each that a page can show has its form, no form is left over, and the parts are kept."""

import re
from importlib import resources

import pytest

from schemas.dispositions import Flag, Outcome, Reason, Refusal
from tests.support import program_sentences
from tests.support.admin import World, form, serving
from workers.admin import texts
from workers.admin.sentences import CHARACTERS_MAX, Sentences
from workers.admin.texts import Language, Texts
from workers.settlement import parking

TEMPLATES = resources.files("workers.admin").joinpath("templates")
CHINESE = Texts(Language.CHINESE, texts.translations(TEMPLATES.joinpath("chinese.toml")))
FORMS = texts.translations(TEMPLATES.joinpath("chinese_sentences.toml"))
SENTENCES = Sentences(FORMS, CHINESE.word)

# Whose sentences stand on pages: details, verdicts on signatures, refused decisions, errors, callbacks, bills.
SHOWN = [
    *(f"schemas/{name}.py" for name in ("antom", "answers", "form", "interpret_answer", "interpret_antom")),
    *(f"schemas/{name}.py" for name in ("interpret_form", "money", "record_format", "times")),
    *(f"ingest/{name}.py" for name in ("answers", "authenticate", "signature")),
    *(f"workers/{name}.py" for name in ("held_decisions", "record_bounds", "record_reader")),
    *(f"workers/settlement/{name}.py" for name in ("decision", "drafting", "parking", "refusals", "verdicts")),
    *(f"workers/callbacks/{name}.py" for name in ("addresses", "http", "schedule", "sender")),
    *(f"workers/admin/{name}.py" for name in ("audit_pages", "bill_pages", "callback_pages", "cursors", "guard")),
    *(f"workers/admin/{name}.py" for name in ("held", "held_pages", "held_verdicts", "inspection", "merchants")),
    *(f"workers/admin/{name}.py" for name in ("notifications", "order_export", "order_filters", "raw_bytes")),
    *(f"workers/admin/{name}.py" for name in ("replays", "responses", "sign_in", "tail_pages")),
    "deploy/authentication.py",
    "deploy/bills/judgement.py",
]
KEYS = (parking.order_key("1"), parking.trade_key("1"), parking.refund_key("1"))
# Those that the sources have in parts, or that other modules make.
IN_PARTS = [
    *(f"waits for {key}" for key in KEYS),
    *(f"waited 25 hours for {key}" for key in KEYS),
    "the order store took longer than 2 s; ask for less (an account, a reason, a shorter time), or try again",
    "amount_min: a currency must be three capital letters",
    "amount_max: a currency must be three capital letters",
    "it reports 12.80 USD, of which 1.00 USD is refunded, so not 9.00 USD: refund 11.80 USD, or discard it",
    "it is already resolved: accepted",
    "it is already resolved: accepted, by kim: asked",
    "the worker's accounts.toml has no such account of family mapi",
    "account shop has no order A1",
    "account shop has no order A1; notifications name it, or may name it: see /api/find or `alipay-notify find`",
    "number is missing: give an order, trade, notification or other number",
    "it has taken no event for 24 hours; last: timeout",
    "it has taken no event for 24 hours; last: timeout no answer within 10 s",
    "day is out of range for month",
    "month must be in 1..12",
    "this is not an HTTP request",
    "personal data was erased from its bytes on 2026-01-31, so it cannot be verified any more",
    "not accepting: starting or draining",
    "no Kafka broker has answered yet",
    "no Kafka broker answers",
    "no Kafka broker answers: KafkaTimeoutError()",
    "has not joined the consumer group yet",
    "offset commit failed: TimeoutError",
    "the topics have not been checked yet",
    "the topics could not be checked yet: TimeoutError",
    "this machine's clock is +7 s from PostgreSQL's",
    "it does not answer",
    "it answers 500",
    "its answer is too large",
    "its answer is of another release: no field",
    "other reasons",
    "any amount",
    "refund R1",
]
# Parts of the sentences above, and texts that are no sentences.
NO_SENTENCES = {
    "x1: x1",
    "x1 x1",
    "x1 (x1)",
    "x1 (token, x1)",
    'Basic realm="admin token as the password", charset="UTF-8"',
    "x1 smallest units of x1",
    "x1; ask for less (an account, a reason, a shorter time), or try again",
    "ask for less (an account, a reason, a shorter time), or try again",
}


def made() -> set[str]:
    return program_sentences.of_modules(SHOWN) | {*IN_PARTS}


def test_every_sentence_of_a_page_has_its_form_in_chinese() -> None:
    assert len(made()) > 150
    assert sorted(each for each in made() - NO_SENTENCES if SENTENCES.of(each) == each) == []


def test_no_form_is_left_over() -> None:
    examples = made() | {each.value for each in Refusal} | {" or "}
    left = [form.pattern for form in SENTENCES.forms if not any(re.fullmatch(form.pattern, each) for each in examples)]
    assert left == []


def test_every_reason_flag_and_refusal_has_a_name_in_chinese() -> None:
    names = {each.value for of in (Reason, Flag, Refusal, Outcome) for each in of}
    assert [each for each in sorted(names) if CHINESE.word(each.replace("_", " ")) == each.replace("_", " ")] == []


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("", ""),
        ("a database's own error", "a database's own error"),
        ("said 0.01 USD, registered 12.80 USD or 80.00 CNY", "通知为 0.01 USD，登记为 12.80 USD 或 80.00 CNY"),
        ("waits for order:A 1, or B", "等待订单 A 1, or B"),
        ("biz_content: nested deeper than 32", "biz_content：嵌套超过 32 层"),
        ("biz_content: {name}", "biz_content：{name}"),
        ("it is already resolved: refunded_outside", "它已处理：已在别处退款 refunded_outside"),
        ("it is already resolved: discarded", "它已处理：已丢弃 discarded"),
        ("the key <b> of its receiver is missing here, or has another content", None),
        ("x" * CHARACTERS_MAX + " is missing", None),
    ],
)
def test_parts_are_kept_and_words_and_sentences_in_them_are_translated(english: str, chinese: str | None) -> None:
    told = SENTENCES.of(english)
    if chinese is None:
        assert told == english or "<b>" in told
    else:
        assert told == chinese


async def test_chinese_pages_show_details_and_errors_in_chinese_and_the_api_in_english() -> None:
    world = World()
    await world.deliver(form("A1"), "strict")
    async with serving(world) as client:
        await client.put("/api/orders/shop/B1", json={"amount": "99.00"})
        await world.deliver(form("B1", notify_id="n2"))

        async def shown(path: str) -> str:
            headers = {"Accept-Language": "zh-CN", "Accept": "text/html"}
            return await (await client.get(path, headers=headers)).text()

        held = await shown("/held")
        for part in ("等待订单 A1", "订单未知 unknown_order", "通知为 12.80 USD，登记为 99.00 USD"):
            assert part in held
        assert "等待订单 A1" in await shown("/held/0-1")
        assert "通知为 12.80 USD，登记为 99.00 USD" in await shown("/orders/shop/B1")
        assert "没有搁置的通知 0-99" in await shown("/held/0-99")
        assert "currency 必须是三个大写字母" in await shown("/orders?amount_min=1&currency=us")
        english = await (await client.get("/held", headers={"Accept-Language": "en"})).text()
        assert 'lang="en">said 12.80 USD, registered 99.00 USD<' in english
        answer = await (await client.get("/api/held", headers={"Accept-Language": "zh-CN"})).json()
        assert [row["detail"] for row in answer["held"]] == [
            "waits for order:A1",
            "said 12.80 USD, registered 99.00 USD",
        ]
        error = await (await client.get("/api/held/0-99", headers={"Accept-Language": "zh-CN"})).json()
        assert error["detail"] == "there is no held notification 0-99"
        script = await (await client.get("/console/texts-zh-CN.js")).text()
        assert "globalThis.sentences = [[" in script
