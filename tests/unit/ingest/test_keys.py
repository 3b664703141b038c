"""Key rings: all faults of an account's files are reported together."""

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization

from ingest import key_files, keys
from ingest.keys import Key
from schemas.accounts import Account, BadAccounts, RetiringAlgorithm, SignType
from tests.support import alipay
from tests.unit.ingest import test_key_files as made

VERSION_3 = b"\xa0\x03\x02\x01\x02"  # as DER writes it


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    alipay.written(tmp_path / "keys", "a.pem", alipay.pem(alipay.rsa_key("a")))
    alipay.written(tmp_path / "keys", "b.pem", alipay.pem(alipay.rsa_key("b")))
    return tmp_path


def account_of(*files: str, name: str = "shop-cn") -> Account:
    return msgspec.structs.replace(alipay.openapi(keys={file: file for file in files}), name=name)


def faults(account: Account, directory: Path) -> list[str]:
    with pytest.raises(BadAccounts) as caught:
        keys.load(account, directory)
    return caught.value.faults


def test_key_id_is_the_file_name_and_for_antom_the_version(directory: Path) -> None:
    ring = keys.load(account_of("keys/a.pem", "keys/b.pem"), directory)
    assert [key.id for key in ring.keys] == ["a.pem", "b.pem"]
    assert (ring.account, ring.sign_type, ring.pinned) == ("shop-cn", SignType.RSA2, b"RSA2")
    antom = keys.load(alipay.antom(keys={"1": "keys/a.pem", "7": "keys/b.pem"}), directory)
    assert [key.id for key in antom.keys] == ["1", "7"]


def test_md5_key_is_loaded_and_not_shown_by_its_ring(directory: Path) -> None:
    alipay.written(directory, "md5", alipay.MD5_SECRET + b"\n")
    account = alipay.mapi(SignType.MD5, keys={}, md5_key_file="md5")
    ring = keys.load(account, directory)
    assert [key.id for key in ring.keys] == ["md5"]
    assert alipay.MD5_SECRET.decode() not in repr(ring) + repr(ring.keys) + str(ring.keys[0].material)


def test_certificates_are_loaded_with_expiry_and_number(directory: Path) -> None:
    alipay.written(directory, "leaf.crt", made.pem(made.LEAF, made.MIDDLE))
    alipay.written(directory, "root.crt", made.pem(made.ROOT))
    account = alipay.openapi(keys={}, certificates=("leaf.crt",), root_certificates=("root.crt",))
    ring = keys.load(account, directory)
    assert [(key.id, key.expires_at) for key in ring.keys] == [("leaf.crt", made.LEAF.not_valid_after_utc)]
    assert list(ring.certificate_numbers()) == [ring.keys[0].certificate_number]
    assert ring.root_number == key_files.certificate_number(made.ROOT)


def test_all_faults_of_all_files_are_reported_together(directory: Path) -> None:
    alipay.written(directory, "private.pem", alipay.private_pem(alipay.rsa_key("a")))
    alipay.written(directory, "large.pem", b"A" * 70_000)
    (directory / "folder").mkdir()
    found = faults(account_of("private.pem", "large.pem", "folder", "absent.pem", "keys/a.pem"), directory)
    assert [fault.split(": ")[0] for fault in found] == ["account shop-cn"] * 4
    for part in (
        "private.pem contains a private key",
        "large.pem has more than",
        "folder does not exist",
        "absent.pem does not",
    ):
        assert any(part in fault for fault in found), part


def test_s28_root_file_without_certificate_or_without_the_chain_s_root_is_a_fault(directory: Path) -> None:
    alipay.written(directory, "leaf.crt", made.pem(made.LEAF, made.MIDDLE))
    alipay.written(directory, "empty.crt", b"nothing")
    account = alipay.openapi(keys={}, certificates=("leaf.crt",), root_certificates=("empty.crt",))
    assert any("empty.crt contains no readable certificate" in fault for fault in faults(account, directory))
    alipay.written(directory, "other.crt", made.pem(made.issued("other", "other", is_authority=True)))
    account = alipay.openapi(keys={}, certificates=("leaf.crt",), root_certificates=("other.crt",))
    assert any("leaf.crt contains a certificate without a chain" in fault for fault in faults(account, directory))


def test_keys_with_the_same_id_are_a_fault(directory: Path) -> None:
    alipay.written(directory, "a.pem", alipay.pem(alipay.rsa_key("b")))
    assert "two keys have the id a.pem" in faults(account_of("keys/a.pem", "a.pem"), directory)[0]


def test_s32_account_without_keys_is_a_fault(directory: Path) -> None:
    assert "no key is configured" in faults(account_of(), directory)[0]


def test_ring_returns_keys_by_id(directory: Path) -> None:
    ring = keys.load(account_of("keys/a.pem"), directory)
    assert ring.named("a.pem") is ring.keys[0]
    assert ring.named("keys/a.pem") is None


@pytest.mark.parametrize("damaged", ["leaf.crt", "root.crt"])
def test_certificate_on_which_the_library_fails_is_a_fault(directory: Path, damaged: str) -> None:
    alipay.written(directory, "leaf.crt", made.pem(made.LEAF, made.MIDDLE))
    alipay.written(directory, "root.crt", made.pem(made.ROOT))
    account = alipay.openapi(keys={}, certificates=("leaf.crt",), root_certificates=("root.crt",))
    of_no_version = made.LEAF.public_bytes(serialization.Encoding.DER).replace(VERSION_3, b"\xa0\x03\x02\x01\x5a", 1)
    alipay.written(directory, damaged, of_no_version)
    assert f"account {account.name}: {damaged} contains no readable certificate" in faults(account, directory)


def test_preferred_key_moves_to_the_front_and_all_keys_stay() -> None:
    ring = alipay.ring(SignType.RSA2, *(alipay.rsa_key(name) for name in "abc"), ids=("a", "b", "c"))
    last: Key = ring.keys[2]
    ring.prefer(last)
    assert [key.id for key in ring.recent] == ["c", "a", "b"]
    assert [key.id for key in ring.keys] == ["a", "b", "c"]


def test_absent_root_file_is_a_fault(directory: Path) -> None:
    alipay.written(directory, "leaf.crt", made.pem(made.LEAF, made.MIDDLE))
    account = alipay.openapi(keys={}, certificates=("leaf.crt",), root_certificates=("absent.crt",))
    assert faults(account, directory) == ["account shop-cn: absent.crt does not exist"]


def test_size_limit_of_key_files_is_exact(directory: Path) -> None:
    content = alipay.pem(alipay.rsa_key("a"))
    (directory / "keys/a.pem").write_bytes(content + b"\n" * (64 * 1024 - len(content)))
    assert keys.load(account_of("keys/a.pem"), directory).keys
    (directory / "keys/a.pem").write_bytes(content + b"\n" * (64 * 1024 - len(content) + 1))
    assert "too many for a key" in faults(account_of("keys/a.pem"), directory)[0]


def retiring(file: str, **changes: object) -> Account:
    entry = RetiringAlgorithm(sign_type=SignType.RSA, until="2099-12-31", until_ms=1, keys={file: file})
    return msgspec.structs.replace(account_of("keys/a.pem"), retiring=(entry,), **changes)


def test_h16_retiring_key_of_1024_bits_is_loaded_with_a_warning(directory: Path) -> None:
    alipay.written(directory, "old.pem", alipay.pem(alipay.rsa_key("old", bits=1024)))
    account = retiring("old.pem")
    ring = keys.load(account, directory)
    assert [(each.sign_type, [key.id for key in each.keys]) for each in ring.retiring] == [("RSA", ["old.pem"])]
    assert "1024 bits" in keys.weak_note(account, *keys.weak(account, ring))
    assert keys.files(account) == ("keys/a.pem", "old.pem")
    assert faults(account_of("old.pem"), directory)


def test_faults_of_retiring_keys_name_their_entry(directory: Path) -> None:
    alipay.written(directory, "weak.pem", alipay.pem(alipay.rsa_key("weak", exponent=3)))
    assert "retiring RSA: weak.pem" in faults(retiring("weak.pem"), directory)[0]
    assert "retiring RSA: gone.pem does not exist" in faults(retiring("gone.pem"), directory)[0]
    assert "two keys have the id a.pem" in faults(retiring("keys/a.pem"), directory)[0]


def digest(account: Account, directory: Path) -> bytes:
    ring = keys.load(account, directory)
    (found,) = ring.digests.values()
    return found


def test_digest_differs_for_another_key_algorithm_or_signed_path_under_the_same_id(directory: Path) -> None:
    account = account_of("keys/a.pem")
    first = digest(account, directory)
    assert digest(account, directory) == first
    assert len(first) == 16
    as_antom = alipay.antom(keys={"1": "keys/a.pem"})
    moved = msgspec.structs.replace(as_antom, public_path="/moved")
    assert len({first, digest(as_antom, directory), digest(moved, directory)}) == 3
    alipay.written(directory, "keys/a.pem", alipay.pem(alipay.rsa_key("c")))
    assert digest(account, directory) != first


def test_digests_are_those_of_all_keys_also_of_retiring_ones(directory: Path) -> None:
    alipay.written(directory, "old.pem", alipay.pem(alipay.rsa_key("old")))
    former = RetiringAlgorithm(sign_type=SignType.RSA, until="x", until_ms=1, keys={"old.pem": "old.pem"})
    ring = keys.load(msgspec.structs.replace(account_of("keys/a.pem"), retiring=(former,)), directory)
    assert sorted(ring.digests) == ["a.pem", "old.pem"]


def test_digest_of_an_md5_key_does_not_contain_it(directory: Path) -> None:
    alipay.written(directory, "md5", alipay.MD5_SECRET)
    account = alipay.mapi(SignType.MD5, keys={}, md5_key_file="md5")
    assert alipay.MD5_SECRET not in digest(account, directory)
