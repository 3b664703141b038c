"""The sandbox's merchants."""

from deploy.sandbox import identities
from deploy.sandbox.identities import IDENTITIES


def test_no_two_accounts_share_a_name_or_a_number() -> None:
    for field in ("name", "partner", "app_id", "client_id"):
        values = [value for one in IDENTITIES if (value := getattr(one, field))]
        assert len(set(values)) == len(values), field


def test_all_but_antom_s_merchants_sign_requests() -> None:
    assert {one.name for one in IDENTITIES if not one.signs_requests} == {"demo-antom", "demo-card"}


def test_merchants_of_a_service_provider_have_their_own_seller_and_token() -> None:
    (provider,) = (one for one in IDENTITIES if one.merchants)
    theirs = [provider.of_merchant(merchant) for merchant in provider.merchants]
    assert [one.auth_app_id for one in theirs] == list(provider.merchants)
    assert len({one.seller_id for one in theirs} | {provider.seller_id}) == 3
    assert {one.app_id for one in theirs} == {provider.app_id}
    assert len({identities.auth_token(merchant) for merchant in provider.merchants}) == 2
