"""The file of the admin tokens: one token alone, or one named operator a line, and the faults that it may have."""

import hmac
from pathlib import Path

import pytest

from workers.admin import operators
from workers.admin.operators import OPERATORS_MAX, BadTokens, Operator

ALICE, BOB = "a-token-of-alice-1", "a-token-of-bob-22"


def written(directory: Path, text: str | bytes) -> Path:
    file = directory / "tokens"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    "text",
    [
        "a-long-enough-token",
        "  a-long-enough-token\n",
        "a-long-enough-token\r\n",
        "a:long-enough:token",
        "correct horse battery staple",
        "# of all operators\n\na-long-enough-token\n",
    ],
)
def test_one_token_alone_has_no_name(tmp_path: Path, text: str) -> None:
    (found,) = operators.read(written(tmp_path, text))
    assert found == Operator("", text.splitlines()[-1].strip().encode())


def test_each_line_names_an_operator(tmp_path: Path) -> None:
    text = f"# day shift\n\nalice: {ALICE}\n  bob@example.com :\t{BOB}\r\n#eve: {BOB}\n"
    expected = (Operator("alice", ALICE.encode()), Operator("bob@example.com", BOB.encode()))
    assert operators.read(written(tmp_path, text)) == expected
    assert operators.read(written(tmp_path, f"alice: {ALICE}")) == expected[:1]
    assert ALICE not in repr(expected)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it has no token"),
        ("\n  \n# alice: comes later\n", "it has no token"),
        ("#a-token-behind-a-hash-sign", "it has no token"),
        ("too-short", "the token in line 1 is too short"),
        ("alice: too-short", "the token in line 1 is too short"),
        (f"{ALICE}\n{BOB}", "line 1 has no name: write NAME: TOKEN in each line"),
        (f"alice: {ALICE}\nbob:{BOB}", "line 2 has no name"),
        (f"alice: {ALICE}\n\nALICE: {BOB}", "line 3 has the name of line 1 again"),
        (f"alice: {ALICE}\nbob: {ALICE}", "line 2 has the token of line 1 again: give each"),
        (f"alice: {ALICE} # until May", "the token in line 1 has a blank in it"),
        (f"-alice: {ALICE}", "the name in line 1 may have only"),
        (f"{'a' * 61}: {ALICE}", "the name in line 1 may have only"),
        (f"张伟: {ALICE}", "line 1 has a character that is not printable ASCII"),
        (f"alice: {ALICE}é", "line 1 has a character that is not printable ASCII"),
        (f"alice: {ALICE}\0", "line 1 has a character that is not printable ASCII"),
        (b"\xef\xbb\xbfalice: a-token-of-alice-1", "line 1 has a character that is not printable ASCII"),
        (f"alice: {ALICE}".encode("utf-16"), "not printable ASCII"),
        ("".join(f"a{n}: {n:016}\n" for n in range(OPERATORS_MAX + 1)), f"it has more than {OPERATORS_MAX} tokens"),
    ],
)
def test_faulty_file_is_refused_by_its_line_and_without_its_tokens(
    tmp_path: Path, text: str | bytes, fault: str
) -> None:
    with pytest.raises(BadTokens) as refused:
        operators.read(written(tmp_path, text))
    assert fault in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (ALICE, BOB, "too-short", "hash-sign"))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadTokens) as refused:
        operators.read(written(tmp_path, f"alice: short\nalice: {BOB}\n{ALICE}"))
    assert [f"line {number}" in str(refused.value) for number in (1, 2, 3)] == [True] * 3


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTokens, match="cannot be read: FileNotFoundError"):
        operators.read(tmp_path / "missing")


def test_largest_file_is_read(tmp_path: Path) -> None:
    text = "".join(f"a{number}: {number:016}\n" for number in range(OPERATORS_MAX))
    assert len(operators.read(written(tmp_path, text))) == OPERATORS_MAX


def test_client_takes_a_line_or_a_token_and_leaves_the_rules_to_the_server() -> None:
    assert operators.parse(b"alice: x\n") == [Operator("alice", b"x")]
    assert operators.parse(b"x") == [Operator("", b"x")]
    assert operators.parse(b"") == []
    assert len(operators.parse(b"alice: x\nbob: y")) == 2
    with pytest.raises(UnicodeError):
        operators.parse("é".encode())


def test_operator_is_found_by_the_whole_token_and_every_token_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    known = (Operator("alice", ALICE.encode()), Operator("bob", BOB.encode()), Operator("eve", b"x" * 16))
    assert operators.of_token(known, BOB.encode()) == known[1]
    for other in ("", BOB[:-1], BOB + "x", BOB.upper(), f"bob: {BOB}", "bob"):
        assert operators.of_token(known, other.encode()) is None
    assert operators.of_token((), b"") is None
    compared: list[tuple[int, int]] = []
    plain = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return plain(one, other)

    monkeypatch.setattr("workers.admin.operators.hmac.compare_digest", counted)
    for token in (ALICE, BOB, "unknown"):
        operators.of_token(known, token.encode())
    assert compared == [(32, 32)] * 9
