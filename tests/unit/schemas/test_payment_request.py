"""The products of each family, and the body that the admin API reads."""

import msgspec
import pytest

from schemas.accounts import Family
from schemas.payment_request import PRODUCTS, PaymentRequest, Product


def test_each_product_belongs_to_a_family_and_page_to_both() -> None:
    assert set(PRODUCTS) == set(Family)
    assert {product for products in PRODUCTS.values() for product in products} == set(Product)
    assert [family for family, products in PRODUCTS.items() if Product.PAGE in products] == ["mapi", "openapi"]


def test_misspelt_field_is_refused_and_not_ignored() -> None:
    body = b'{"product":"h5","order":"A1","subject":"Tea","amount":"1.00","retrun_url":"https://shop.example"}'
    with pytest.raises(msgspec.ValidationError, match="retrun_url"):
        msgspec.json.decode(body, type=PaymentRequest)
