"""`alipay-notify request`: sign the Request that sends a buyer to Alipay, with the merchant's own key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import exits
from deploy.cli import admin, terminal
from deploy.cli.admin import AdminApiError, AdminClient

if TYPE_CHECKING:
    from schemas.money import Money
    from schemas.payment_request import PaymentRequest, SignedPayment

_HELP = """Sign a Request with the account's merchant_key_file.

PRODUCT is native, h5 or page for family mapi, and page, wap or app for family openapi. native and app give the order
string for Alipay's SDK, the others an address for the buyer's browser. The key file is read here; no server is needed,
except by --register, which registers the order with its amount before the Request is printed. A service provider acts
for a merchant with that merchant's app_auth_token: Alipay takes the merchant from it, and --auth-app-id is its number.

    alipay-notify request h5 --account web --order W-1 --amount 12.80 \\
        --currency USD --subject "Museum pass" --register
    alipay-notify request page --account cn --order C-1 --amount 88.00 \\
        --subject 门票 --return-url https://shop.example.com/back
    alipay-notify request h5 --account web --order W-2 --rmb 80.00 \\
        --currency USD --subject "Museum pass" --timeout 2h --output json
    alipay-notify request page --account isv --order I-1 --amount 9.00 \\
        --subject Tea --auth-app-id 2021000000000008 \\
        --app-auth-token-file merchant-8.token
"""
_EPILOG = (
    "Exit codes: 0 signed, 1 the accounts file or the key cannot be used, or the order could not be registered, "
    "2 wrong usage or a fault of the payment."
)


AppAuthToken = Annotated[
    str,
    typer.Option(
        "--app-auth-token-file",
        metavar="FILE",
        help="File with the app_auth_token of a service provider's merchant.",
        show_default=False,
        callback=admin.read_token,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("request", help=_HELP, epilog=_EPILOG)(request)


def request(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="native, h5, page, app or wap.")],
    account: Annotated[str, typer.Option(help="The account that is paid.")],
    order: Annotated[str, typer.Option(help="The order's number.")],
    subject: Annotated[str, typer.Option(help="The text that the buyer sees.")],
    amount: Annotated[str, typer.Option(help="The price, such as 12.80.")] = "",
    currency: Annotated[str, typer.Option(help="Its currency; otherwise the account's.")] = "",
    rmb: Annotated[str, typer.Option(help="The price in RMB; --currency is that of the settlement.")] = "",
    notify_url: Annotated[str, typer.Option(help="Where Alipay sends notifications; otherwise the account's.")] = "",
    return_url: Annotated[str, typer.Option(help="Where the buyer returns to.")] = "",
    body: Annotated[str, typer.Option(help="A description of the goods.")] = "",
    timeout: Annotated[str, typer.Option(help="When the payment expires, such as 30m.")] = "",
    extra: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A further parameter; may be repeated.")
    ] = None,
    auth_app_id: admin.AuthAppId = "",
    app_auth_token: AppAuthToken = "",
    register_order: Annotated[bool, typer.Option("--register", help="Register the order with its amount.")] = False,
    accounts: Annotated[
        Path, typer.Option(envvar="ALIPAY_NOTIFY_ACCOUNTS", help="The accounts file; key paths are relative to it.")
    ] = Path("accounts.toml"),
    url: admin.Url = admin.DEFAULT_URL,
    token: admin.Token = "",
    output: terminal.Output = "table",
) -> None:
    """Sign a Request, and print it."""
    from schemas.payment_request import PaymentRequest

    further = dict(_pair(each) for each in extra or ())
    if app_auth_token:
        further["app_auth_token"] = app_auth_token
    wanted = PaymentRequest(
        product=product,
        order=order,
        subject=subject,
        amount=amount,
        currency=currency,
        rmb=rmb,
        notify_url=notify_url,
        return_url=return_url,
        body=body,
        timeout=timeout,
        extra=further,
        auth_app_id=auth_app_id,
    )
    signed = _signed(accounts, account, wanted)
    if register_order:
        _register(AdminClient(url, token=token), account, wanted, signed.amounts)
    if output == "json":
        answer = {"account": account, "order": order, "product": product, "registered": register_order}
        terminal.as_json(answer | {"url": signed.url, "order_string": signed.order_string})
    else:
        typer.echo(signed.url or signed.order_string)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} must be NAME=VALUE", param_hint="--extra")
    return name, value


def _signed(path: Path, name: str, wanted: PaymentRequest) -> SignedPayment:
    from deploy import accounts_file
    from deploy.request_signing import RequestSigner
    from ingest.clock import SystemClock
    from schemas.accounts import BadAccounts
    from workers.admin.requests import NoMerchantKey, UnsignableRequest

    try:
        known = accounts_file.read(path)
    except BadAccounts as bad:
        terminal.fail("; ".join(bad.faults))
    if name not in known:
        raise typer.BadParameter(f"{path} has no account {name}: it has {', '.join(known)}", param_hint="--account")
    try:
        return RequestSigner(path.parent, now_ms=SystemClock().epoch_ms)(wanted, known[name])
    except UnsignableRequest as faults:
        terminal.fail(f"The Request was not signed: {faults}", exits.WRONG_USAGE)
    except NoMerchantKey as missing:
        terminal.fail(missing)


def _register(api: AdminClient, account: str, wanted: PaymentRequest, amounts: tuple[Money, ...]) -> None:
    if wanted.rmb and not wanted.amount:
        from workers.admin.requests import RMB_ALONE

        terminal.fail(RMB_ALONE, exits.WRONG_USAGE)
    prices: list[dict[str, Any]] = [{"amount_minor": each.minor, "currency": each.currency} for each in amounts]
    body = {"amounts": prices} if len(prices) > 1 else prices[0]
    try:
        query = {"auth_app_id": wanted.auth_app_id} if wanted.auth_app_id else None
        api.send("PUT", "orders", account, wanted.order, body=body | {"by": api.operator()}, query=query)
    except AdminApiError as error:
        admin.fail(error)
