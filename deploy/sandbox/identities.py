"""The merchants of the sandbox: the ids and settings of their accounts that both sides know, without keys.

All ids are made up and the same in every world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from deploy.sandbox import signing

Product = Literal["in-app", "website", "open", "antom"]
Family = Literal["mapi", "openapi", "antom"]

_FAMILIES: Mapping[Product, Family] = {"in-app": "mapi", "website": "mapi", "open": "openapi", "antom": "antom"}


class FormerAlgorithm(msgspec.Struct, frozen=True, kw_only=True):
    """An algorithm that an account has given up, with Alipay's key for it, until the end of a day in UTC+8."""

    sign_type: signing.SignType
    key: str
    until: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The data of one merchant account that both sides know, without keys.

    `merchants` are the applications that a service provider acts for; `auth_app_id` is the one that a trade is of.
    """

    name: str
    product: Product
    sign_type: signing.SignType
    key: str
    currency: str
    charset: str = "utf-8"
    seller_id: str = ""
    partner: str = ""
    app_id: str = ""
    client_id: str = ""
    notify_verify: bool = False
    registered: bool = False
    manual_capture: bool = False
    currencies: tuple[str, ...] = ()
    notify_path: str = ""
    is_certified: bool = False
    merchants: tuple[str, ...] = ()
    auth_app_id: str = ""
    former: tuple[FormerAlgorithm, ...] = ()

    @property
    def family(self) -> Family:
        """Return the family of notifications that this product belongs to."""
        return _FAMILIES[self.product]

    @property
    def path(self) -> str:
        """Return the path of the account's notify URL; Antom signs it too."""
        return self.notify_path or f"/notify/{self.name}"

    @property
    def signs_requests(self) -> bool:
        """Return whether the account's merchant signs Requests: with its own key, or with the secret of MD5."""
        return self.family != "antom" and self.sign_type != "DSA"

    @property
    def can_ask(self) -> bool:
        """Return whether the account's merchant can ask about its orders; a service provider's orders are of others."""
        return self.sign_type != "DSA" and not self.merchants

    @property
    def can_ask_with_key(self) -> bool:
        """Return whether it does so with a key of its own."""
        return self.can_ask and self.sign_type != "MD5"

    def of_merchant(self, auth_app_id: str) -> Identity:
        """Return a service provider's identity for one of its merchants, who has a seller number of its own."""
        return msgspec.structs.replace(self, auth_app_id=auth_app_id, seller_id=f"2088{auth_app_id[-12:]}")


IDENTITIES: tuple[Identity, ...] = (
    Identity(name="demo-app", product="in-app", sign_type="RSA", key="mapi-rsa", currency="USD",
             seller_id="2088999900001017", partner="2088999900001017"),
    Identity(name="demo-web", product="website", sign_type="RSA", key="mapi-rsa", currency="USD",
             partner="2088999900001025", notify_verify=True, registered=True),
    Identity(name="demo-cn", product="open", sign_type="RSA2", key="openapi-rsa2", currency="CNY",
             app_id="2021999900001041", seller_id="2088999900001041", currencies=("USD",)),
    Identity(name="demo-antom", product="antom", sign_type="RSA256", key="antom-rsa256", currency="USD",
             client_id="SANDBOX_5Y0000000000000001"),
    Identity(name="demo-card", product="antom", sign_type="RSA256", key="antom-rsa256", currency="USD",
             client_id="SANDBOX_5Y0000000000000002", manual_capture=True),
    Identity(name="demo-md5", product="in-app", sign_type="MD5", key="mapi-md5", currency="HKD", charset="gbk",
             seller_id="2088999900001033", partner="2088999900001033"),
    Identity(name="demo-cert", product="open", sign_type="RSA2", key="openapi-rsa2", currency="CNY",
             app_id="2021999900001058", seller_id="2088999900001058", is_certified=True),
    Identity(name="demo-isv", product="open", sign_type="RSA2", key="openapi-rsa2", currency="CNY",
             app_id="2021999900001066", merchants=("2021999900001074", "2021999900001082")),
    Identity(name="demo-moved", product="in-app", sign_type="RSA2", key="mapi-rsa2", currency="USD",
             seller_id="2088999900001090", partner="2088999900001090",
             former=(FormerAlgorithm(sign_type="RSA", key="mapi-rsa", until="2099-12-31"),
                     FormerAlgorithm(sign_type="MD5", key="moved-md5", until="2020-12-31"))),
)  # fmt: skip

SHOP = "demo-web"


def auth_token(auth_app_id: str) -> str:
    """Return the `app_auth_token` by which a service provider acts for this merchant."""
    return f"SANDBOX-{auth_app_id}"
