"""The accounts in use are one state, which is replaced as a whole and tells its watchers the difference."""

from pathlib import Path

import pytest

from ingest import accounts_in_use
from ingest.accounts_in_use import AccountsChange, AccountsInUse, KeyedAccount
from ingest.keys import KeyRing
from schemas.accounts import BadAccounts, SignType
from tests.support import alipay


def keyed(name: str) -> KeyedAccount:
    return KeyedAccount(alipay.openapi(), KeyRing(name, SignType.RSA2, ()))


def change(added: str = "", changed: str = "", removed: str = "") -> AccountsChange:
    return AccountsChange(frozenset(added.split()), frozenset(changed.split()), frozenset(removed.split()))


def test_watchers_get_the_difference_and_at_first_all_accounts() -> None:
    kept, left = keyed("kept"), keyed("left")
    in_use = AccountsInUse({"kept": kept, "left": left, "new-key": keyed("new-key")})
    seen: list[AccountsChange] = []
    in_use.watch(seen.append)
    in_use.replace({"kept": kept, "new-key": keyed("new-key"), "came": keyed("came")})
    assert seen == [change(added="kept left new-key"), change(added="came", changed="new-key", removed="left")]
    assert seen[-1].learnt == {"came", "new-key"}


def test_mapping_shows_the_present_state_and_an_old_state_stays_as_it_was() -> None:
    in_use = AccountsInUse({"left": keyed("left")})
    before = in_use.keyed
    in_use.replace({"came": keyed("came")})
    assert (list(in_use), len(in_use), "came" in in_use, "left" in in_use) == (["came"], 1, True, False)
    assert in_use["came"] == alipay.openapi()
    assert in_use.ring("came").account == "came"
    assert in_use.get("left") is None
    with pytest.raises(KeyError):
        in_use.ring("left")
    assert list(before) == ["left"]


def test_faults_of_all_accounts_are_reported_together(tmp_path: Path) -> None:
    accounts = {name: alipay.openapi(keys={f"{name}.pem": f"{name}.pem"}) for name in ("one", "two")}
    with pytest.raises(BadAccounts) as caught:
        accounts_in_use.load(accounts, tmp_path)
    assert [fault.partition(": ")[2] for fault in caught.value.faults] == [
        "one.pem does not exist",
        "two.pem does not exist",
    ]
    assert accounts_in_use.load(accounts, tmp_path, unchanged={name: keyed(name) for name in accounts}).keys() == {
        "one",
        "two",
    }
