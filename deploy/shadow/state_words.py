"""The words of merchants' books for the state of an order. Others have to be mapped with `--state WORD=STATE`."""

from deploy.shadow.shapes import OldState

WORDS: dict[str, OldState] = {
    **{state.value: state for state in OldState},
    **dict.fromkeys(
        ("unpaid", "pending", "created", "new", "not_paid", "wait_buyer_pay", "待支付", "未支付"), OldState.WAITING
    ),
    **dict.fromkeys(("trade_success", "success", "succeeded", "已支付", "支付成功"), OldState.PAID),
    "trade_finished": OldState.FINISHED,
    **dict.fromkeys(("partially_refunded", "部分退款"), OldState.PARTLY_REFUNDED),
    **dict.fromkeys(("fully_refunded", "已退款", "全额退款"), OldState.REFUNDED),
    **dict.fromkeys(("trade_closed", "cancelled", "canceled", "expired", "failed", "已关闭"), OldState.CLOSED),
}


class UnknownState(ValueError):
    """The word is for none of the known states."""


def state_of(word: str, words: dict[str, OldState]) -> OldState:
    """Return the state for a word: one of the caller's `words`, else of `WORDS`, whatever its case.

    Raises:
        UnknownState: neither has it.
    """
    key = word.strip().lower().replace(" ", "_").replace("-", "_")
    found = words.get(word.strip()) or words.get(key) or WORDS.get(key)
    if found is None:
        raise UnknownState(f"state {word.strip()!r} is not known; map it with --state {word.strip()}=paid, for example")
    return found
