"""The console's pages of comparisons with bills."""

from typing import Any

from tests.support.admin import World, serving
from tests.unit.workers.admin.test_bills import DIFFERENCE, finished

HOSTILE = DIFFERENCE | {"order": "=cmd|'/c calc'!A1", "trade": "<b>T</b>", "detail": "there is no such order here"}
FOUND = {"counts": {"payment_only_in_bill": 2}, "unreadable": 1, "faults": ["line 7: <i>bad</i>"]}


async def shown(client: Any, path: str) -> str:
    answer = await client.get(path)
    assert answer.status == 200
    return str(await answer.text())


async def test_list_shows_the_imports_with_their_result() -> None:
    async with serving(World()) as client:
        assert "No bill was compared yet." in await shown(client, "/bills")
        number = await finished(client, DIFFERENCE, report=FOUND)
        page = await shown(client, "/bills")
        assert (f'href="/bills/{number}"' in page, "differs" in page, "1970-01-01" in page) == (True, True, True)


async def test_page_shows_sums_faults_and_differences_escaped() -> None:
    sums = [
        {"kind": "payment", "currency": "USD", "bill_count": 2, "bill_minor": 2560, "here_count": 0, "here_minor": 0}
    ]
    async with serving(World()) as client:
        known = DIFFERENCE | {"order": "A1", "is_known": True}
        number = await finished(client, HOSTILE, known, report=FOUND | {"sums": sums})
        page = await shown(client, f"/bills/{number}")
        assert ("25.60" in page, "&lt;b&gt;T" in page, "&lt;i&gt;bad" in page, "<b>T" in page) == (
            True,
            True,
            True,
            False,
        )
        assert ('href="/orders/shop/A1"' in page, "--ask" in page) == (True, True)
        chinese = await shown(client, f"/bills/{number}?lang=zh-CN")
        assert "账单已付款，本地没有" in chinese
        for path in ("/bills/99", "/bills/99/differences.csv"):
            assert (await client.get(path)).status == 404


async def test_csv_has_no_formulas() -> None:
    async with serving(World()) as client:
        number = await finished(client, HOSTILE)
        csv = await shown(client, f"/bills/{number}/differences.csv")
        head, row = csv.splitlines()
        assert head.startswith("kind,account,auth_app_id,order")
        assert row.startswith("payment_only_in_bill,shop,,'=cmd")
        assert ",12.80,USD,," in row


async def test_differences_are_shown_page_by_page() -> None:
    async with serving(World()) as client:
        rows = [DIFFERENCE | {"order": f"A{each:03}"} for each in range(101)]
        number = await finished(client, *rows)
        page = await shown(client, f"/bills/{number}")
        assert ("A099" in page, "A100" in page, f"/bills/{number}?after=100" in page) == (True, False, True)
        assert "A100" in await shown(client, f"/bills/{number}?after=100")
