"""Bills as Alipay's pages show them, with made-up numbers, and reports of comparisons in memory."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from tests.support.stores import MemoryStore
from workers import bills
from workers.bills import BillDifference, BillImport, NewImport
from workers.queries import OrderPage, OrderQuery

TRADE_COLUMNS = (
    "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,"
    "支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,"
    "退款批次号/请求号,服务费（元）,分润（元）,备注"
)
TOTALS_COLUMNS = "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）"


def trade_row(
    order: str,
    amount: str = "12.80",
    *,
    kind: str = "交易",
    trade: str = "",
    at: str = "2025-10-09 16:53:18",
    refund: str = "",
    subject: str = "两张票",
    currency: str = "",
) -> str:
    trade = trade or f"20251009{order}"
    return (
        f"{trade}\t,{order}\t,{kind},{subject},{at},{at},,,,,buy***@example.com,{amount},{amount},0.00,0.00,0.00,0.00,"
        f"0.00,,0.00,0.00,{refund},0.00,0.00,{f',{currency}' if currency else ''}"
    )


def trade_bill(
    rows: Sequence[str],
    *,
    merchant: str = "2088001000000001",
    day: str = "2025年10月09日",
    until: str = "2025年10月10日",
    counts: tuple[int, int] | None = None,
    has_currency: bool = False,
) -> str:
    payments = sum(",交易," in row for row in rows)
    paid, refunded = counts or (payments, sum(",退款," in row for row in rows))
    return "\r\n".join([
        "#支付宝业务明细查询",
        f"#账号：[{merchant}0156]" if merchant else "#",
        f"#起始日期：[{day} 00:00:00]   终止日期：[{until} 00:00:00]",
        "#-----------------------------------------业务明细列表----------------------------------------",
        TRADE_COLUMNS + ",币种" * has_currency,
        *rows,
        "#-----------------------------------------业务明细列表结束------------------------------------",
        f"#交易合计：{paid}笔，退款合计：{refunded}笔，交易金额：0.00元",
        "#导出时间：[2025年10月10日 09:11:08]",
        "",
    ])  # fmt: skip


def bill_in_dollars(*rows: tuple[str, dict[str, str]]) -> bytes:
    """Return a bill of 9 October 2025 with these orders, in the currency of the tests' accounts."""
    texts = [trade_row(order, currency="USD", **more) for order, more in rows]
    return trade_bill(texts, merchant="", has_currency=True).encode("gbk")


def archive(path: Path, **members: bytes) -> Path:
    """Write an archive of files whose names are the keywords, each with `.csv` at its end."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as found:
        for name, content in members.items():
            found.writestr(f"{name}.csv", content)
    return path


class MemoryBills:
    """Implements `workers.bills.BillsPort`, over the store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.reports: dict[int, BillImport] = {}
        self.listed: dict[int, dict[int, BillDifference]] = {}
        self._last = 0

    async def bill_orders(self, account: str, numbers: Sequence[str], trades: Sequence[str]) -> Sequence[OrderPage]:
        found = await self._store.order_list(OrderQuery(account=account, limit=10**6))
        return [
            page
            for page in found.pages
            if page.number in numbers
            or (page.order is not None and any(claim.trade in trades for claim in page.order.claims))
        ]

    async def begin_import(self, new: NewImport, *, now_ms: int) -> int:
        self._last += 1
        self.listed[self._last] = {}
        self.reports[self._last] = BillImport(
            number=self._last, account=new.account, digest=new.digest, begun_at_ms=now_ms, finished_at_ms=None,
            report=new.report,
        )  # fmt: skip
        return self._last

    async def add_differences(self, number: int, first: int, differences: Sequence[BillDifference]) -> bool:
        if number not in self.reports or self.reports[number].finished_at_ms is not None:
            return False
        for place, difference in enumerate(differences, first):
            self.listed[number].setdefault(place, difference)
        return True

    async def finish_import(self, number: int, *, by: str, now_ms: int) -> BillImport | None:
        found = self.reports.get(number)
        if found is None or found.finished_at_ms is not None:
            return None
        named = (found.account, found.digest)
        earlier = [
            each
            for each in self.reports.values()
            if (each.account, each.digest) == named and each.number < number and each.finished_at_ms is not None
        ]
        for each in earlier:
            del self.reports[each.number], self.listed[each.number]
        self.reports[number] = structs.replace(found, finished_at_ms=now_ms)
        return bills.last_of(earlier)

    async def imports(self, limit: int, before: int | None = None) -> Sequence[BillImport]:
        found = [
            each for number, each in sorted(self.reports.items(), reverse=True) if before is None or number < before
        ]
        return [each for each in found if each.finished_at_ms is not None][:limit]

    async def bill_import(self, number: int) -> BillImport | None:
        return self.reports.get(number)

    async def differences(self, number: int, *, after: int, limit: int) -> Sequence[tuple[int, BillDifference]]:
        found = sorted(self.listed.get(number, {}).items())
        return [each for each in found if each[0] > after][:limit]
