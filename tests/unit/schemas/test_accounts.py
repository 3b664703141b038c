"""What an account knows of itself: its secret, its merchants, its names, and itself under a former algorithm."""

import pytest
from msgspec import structs

from schemas.accounts import ANY_AUTH_APP_ID, Account, Family, RetiringAlgorithm, SignType

RETIRING = RetiringAlgorithm(sign_type=SignType.MD5, until="2026-11-30", until_ms=1, md5_key_file="old")
SHOP = Account(
    name="shop",
    family=Family.OPENAPI,
    sign_type=SignType.RSA2,
    keys={"k.pem": "k.pem"},
    certificates=("c.crt",),
    root_certificates=("r.crt",),
    retiring=(RETIRING,),
)


def test_only_an_md5_key_without_a_retiring_algorithm_names_the_merchant() -> None:
    md5 = Account(name="web", family=Family.MAPI, sign_type=SignType.MD5, md5_key_file="k")
    assert md5.has_secret
    assert not structs.replace(md5, retiring=(RETIRING,)).has_secret
    assert not SHOP.has_secret


def test_account_under_its_former_algorithm_has_only_the_former_keys() -> None:
    former = SHOP.under(RETIRING)
    assert (former.sign_type, former.keys, former.md5_key_file) == (SignType.MD5, {}, "old")
    assert (former.certificates, former.root_certificates, former.retiring) == ((), (), ())
    assert former.name == SHOP.name


def test_provider_serves_its_merchants_or_all() -> None:
    assert not SHOP.serves("2021A")
    listed = structs.replace(SHOP, auth_app_ids=("2021A", "2021B"))
    assert (listed.serves("2021A"), listed.serves("2021")) == (True, False)
    assert structs.replace(SHOP, auth_app_ids=ANY_AUTH_APP_ID).serves("2021C")


@pytest.mark.parametrize(
    ("fields", "is_named"),
    [
        ({b"seller_id": b"2088S"}, True),
        ({b"partner_id": b"2088P"}, True),
        ({b"pay_user_id": b"2088P"}, True),
        ({b"partner_id": b"2088S"}, False),
        ({b"seller_id": b"2088X"}, False),
        ({}, False),
    ],
)
def test_form_names_the_account_by_seller_or_partner(fields: dict[bytes, bytes], is_named: bool) -> None:
    web = Account(name="web", family=Family.MAPI, sign_type=SignType.RSA, seller_id="2088S", partner="2088P")
    assert web.is_named_in(fields) is is_named
