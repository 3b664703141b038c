"""`held list`, `show`, `replay` and `discard` against a real admin port on a real socket."""

import pytest

from tests.support.admin import form
from tests.unit.deploy.cli.admin_server import Server
from tests.unit.deploy.cli.commands import against, parsed

MARKUP = "<script>[bold]"


@pytest.fixture
def ids(server: Server) -> list[str]:
    """Two notifications that are held because the merchant has registered another amount."""
    for number in ("A1", "A2"):
        against(server, "order", "register", number, "--account", "shop", "--amount", "99.00")
        server.do(server.world.deliver(form(number)))
    return [row["id"] for row in parsed(against(server, "held", "list", "--output", "json"))["held"]]


def test_list_filters_by_reason(server: Server, ids: list[str]) -> None:
    listed = against(server, "held", "list", "--reason", "amount_mismatch")
    assert (listed.exit_code, listed.stdout.count("amount_mismatch")) == (0, len(ids))


def test_list_has_the_amount_and_how_long_it_is_held(server: Server, ids: list[str]) -> None:
    listed = against(server, "held", "list").stdout
    assert listed.count("12.80 USD") - listed.count("said 12.80 USD") == len(ids)
    assert "held for" in listed
    (first, _) = parsed(against(server, "held", "list", "--output", "json"))["held"]
    assert (first["amount_minor"], first["currency"], first["amount_of"]) == (1280, "USD", "paid")


def test_show_hides_personal_data_until_it_is_revealed_with_a_reason(server: Server, ids: list[str]) -> None:
    shown = against(server, "held", "show", ids[0])
    assert "acknowledged, not sent again" in shown.stdout
    assert (shown.exit_code, "som***" in shown.stdout, "somebody%40example.com" in shown.stdout) == (0, True, False)
    assert against(server, "held", "show", ids[0], "--reveal").exit_code == 2
    revealed = against(server, "held", "show", ids[0], "--reveal", "--reason", "the buyer asks")
    assert (revealed.exit_code, "somebody%40example.com" in revealed.stdout) == (0, True)


def test_show_has_the_two_values_that_disagree_and_what_comes_next(server: Server, ids: list[str]) -> None:
    shown = " ".join(against(server, "held", "show", ids[0]).stdout.split())
    for part in (
        "It says 12.80 USD", "Known 99.00 USD (registered)", "Deliveries 1", "Attempts 0, 0 by operators",
        "Next attempt none: it needs a decision", "offset 1 of partition 0", "valid, verified now by key k",
    ):  # fmt: skip
        assert part in shown
    against(server, "held", "discard", ids[0], "--reason", "a test")
    assert "discarded on" in against(server, "held", "show", ids[0]).stdout


def test_show_of_a_parked_one_says_until_when_it_is_retried(server: Server) -> None:
    position = server.do(server.world.deliver(form("B1"), "strict"))
    shown = " ".join(against(server, "held", "show", str(position)).stdout.split())
    for part in ("Waits for order:B1", "Next attempt 20", "Gives up not before 20"):
        assert part in shown
    assert "It says" not in shown


def test_show_exits_with_3_if_the_signature_is_not_valid(server: Server) -> None:
    position = server.do(server.world.deliver(form("B1"), "strict"))
    server.world.is_authentic = False
    shown = against(server, "held", "show", str(position))
    assert (shown.exit_code, "验签失败" in shown.stdout) == (3, True)


def test_retry_of_one_that_stays_held_exits_with_3(server: Server, ids: list[str]) -> None:
    still = against(server, "held", "replay", ids[0])
    assert (still.exit_code, "still quarantined" in still.stdout) == (3, True)
    assert len(server.world.store.decided) == 1


def test_retry_by_filter_is_a_dry_run_without_yes(server: Server, ids: list[str]) -> None:
    dry = against(server, "held", "replay", "--reason", "amount_mismatch")
    assert (dry.exit_code, "nothing was done" in dry.stdout) == (0, True)
    assert all(id_ in dry.stdout for id_ in ids)
    assert not server.world.store.decided


def test_accept_registers_and_applies(server: Server, ids: list[str]) -> None:
    accepted = against(server, "held", "accept", ids[0], "--reason", "a voucher")
    assert (accepted.exit_code, "a voucher" in accepted.stdout) == (0, True)
    shown = against(server, "order", "show", "A1")
    assert ("PAID" in shown.stdout, "accepted" in shown.stdout) == (True, True)
    again = against(server, "held", "accept", ids[0], "--reason", "again")
    assert (again.exit_code, "already resolved: accepted" in again.stderr) == (1, True)


def test_discard_is_final(server: Server, ids: list[str]) -> None:
    discarded = against(server, "held", "discard", ids[1], "--reason", "refunded by hand")
    assert (discarded.exit_code, "refunded by hand" in discarded.stdout) == (0, True)
    again = against(server, "held", "discard", ids[1], "--reason", "again")
    assert (again.exit_code, "already resolved" in again.stderr) == (1, True)
    assert against(server, "held", "discard", ids[0], "--reason", "too").exit_code == 0
    assert "Nothing is held" in against(server, "held", "list").stderr


def test_unknown_reason_is_answered_with_all_reasons(server: Server) -> None:
    for command in ("list", "replay"):
        refused = against(server, "held", command, "--reason", "because")
        assert refused.stderr.startswith("reason must be one of ")
        assert "amount_mismatch" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay",),
        ("replay", "0-1", "--reason", "amount_mismatch"),
        ("replay", "--reason", "amount_mismatch", "--yes"),
        ("replay", "--reason", "because"),
        ("list", "--reason", "because"),
        ("discard", "0-1"),
        ("discard", "1234", "--reason", "r"),
        ("show", "nonsense"),
    ],
)
def test_wrong_arguments_are_wrong_usage(server: Server, arguments: tuple[str, ...]) -> None:
    refused = against(server, "held", *arguments)
    assert refused.exit_code == 2
    assert refused.stderr


def test_l09_sender_text_is_printed_as_plain_text(server: Server) -> None:
    position = server.do(server.world.deliver(form("B1", subject=f"{MARKUP}\x1b[31m"), "strict"))
    unreadable = server.do(server.world.deliver(form("C1\x1b[31m")))
    for arguments, text in (
        (("show", str(position)), f"{MARKUP}\\u001b[31m"),
        (("show", str(unreadable)), "C1\\u001b[31m"),
        (("list",), "control_char"),
    ):
        shown = against(server, "held", *arguments)
        assert text in shown.stdout
        assert "\x1b" not in shown.stdout
