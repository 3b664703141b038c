"""Reading `accounts.toml`: all accounts, or all faults; and again, only what has changed."""

import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from deploy import accounts_file
from deploy.accounts_file import AccountsFile
from schemas import accounts_toml
from schemas.accounts import Account, BadAccounts


def faults(path: Path) -> list[str]:
    with pytest.raises(BadAccounts) as caught:
        accounts_file.read(path)
    return caught.value.faults


def test_accounts_are_read_with_non_ascii_key_names(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(
        '[accounts.a]\nfamily = "mapi"\nsign_type = "RSA"\nkeys = ["密.pem"]\nseller_id = "1"\n', encoding="utf-8"
    )
    assert accounts_file.read(path)["a"].keys == {"密.pem": "密.pem"}


def test_missing_or_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    assert "cannot be read" in faults(path)[0]
    for content in (b"[accounts", b"\xff\xfe"):
        path.write_bytes(content)
        assert "is not TOML" in faults(path)[0]
    path.write_text("")
    assert "add one for each account" in faults(path)[0]


GOOD = '[accounts.{0}]\nfamily = "mapi"\nsign_type = "RSA"\nkeys = ["{0}.pem"]\nseller_id = "{1}"\n'
RETIRING = '[[accounts.a.retiring]]\nsign_type = "DSA"\nkeys = ["old.pem"]\nuntil = 2030-01-01\n'
VERSIONS = '[accounts.a.keys]\n1 = "one.pem"\n'
UNLISTED = '[accounts.a]\nfamily = "mapi"\nsign_type = "RSA"\nseller_id = "1"\n'
AB = GOOD.format("a", 1) + GOOD.format("b", 2)
FILES = {
    "two": AB,
    "comments": "# all shops\n\n  # and more\n" + AB.replace("[accounts.b]", "[accounts.b] # the second"),
    "windows": AB.replace("\n", "\r\n"),
    "retiring": GOOD.format("a", 1) + RETIRING + GOOD.format("b", 2),
    "table of keys": UNLISTED + VERSIONS + GOOD.format("b", 2),
    "table of keys elsewhere": UNLISTED + GOOD.format("b", 2) + VERSIONS,
    "header in a long text": GOOD.format("a", 1) + 'charset = """\n[accounts.b]\n"""\n',
    "header in a literal": GOOD.format("a", 1) + "notify_url = '''https://x.example\n[accounts.b]\nfamily'''\n",
    "header in a list": GOOD.format("a", 1) + 'currencies = [\n[accounts.b]\n]\nfamily = "mapi"\n',
    "open list": GOOD.format("a", 1) + "currencies = [\n" + GOOD.format("b", 2),
    "twice": AB + GOOD.format("a", 3),
    "twice the same": AB + GOOD.format("a", 1),
    "indented": AB.replace("[accounts.b]", "  [accounts.b]"),
    "spaced": AB.replace("[accounts.b]", "[ accounts . b ]"),
    "quoted": AB.replace("[accounts.b]", '[accounts."b"]'),
    "in one line": 'accounts.a = {family = "mapi", sign_type = "RSA", keys = ["k"], seller_id = "1"}\n' + AB,
    "dotted": 'accounts.c.family = "mapi"\n' + AB,
    "parent": "[accounts]\n" + AB,
    "other table": AB + "[servers]\nkafka = 1\n",
    "capital": AB.replace("[accounts.b]", "[accounts.B]"),
    "unknown setting": AB + "colour = 3\n",
    "two faults": AB.replace("RSA", "RSA9"),
    "syntax": AB + "[accounts.tw",
    "empty": "",
    "comment only": "# nothing yet",
    "no newline": AB.rstrip("\n"),
    "byte order mark": "\ufeff" + AB,
}


def meaning(text: str, path: Path) -> dict[str, Account] | list[str]:
    """The accounts, or the faults, of the text as a whole."""
    try:
        return accounts_toml.parse(tomllib.loads(text.replace("\r\n", "\n")))
    except tomllib.TOMLDecodeError as error:
        return [f"{path} is not TOML: {error}"]
    except BadAccounts as bad:
        return bad.faults


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
@pytest.mark.parametrize("before", ["", AB, AB.replace("RSA", "MD5")])
def test_file_means_the_same_table_by_table(tmp_path: Path, text: str, before: str) -> None:
    path = tmp_path / "accounts.toml"
    file = AccountsFile(path)
    path.write_text(before, encoding="utf-8")
    with suppress(BadAccounts):
        file.read()
    path.write_bytes(text.encode())
    for _ in range(2):
        try:
            read: dict[str, Account] | list[str] = file.read()
        except BadAccounts as bad:
            read = bad.faults
        assert read == meaning(text, path)
        assert list(read) == list(meaning(text, path))


def test_only_tables_with_a_new_text_are_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pauses = tmp_path / "accounts.toml", []
    path.write_text(AB)
    file = AccountsFile(path)
    before = file.read(lambda: pauses.append("a table"))
    path.write_text(GOOD.format("a", 1) + GOOD.format("c", 3) + GOOD.format("b", 4))
    now = file.read(lambda: pauses.append("another table"))
    assert now["a"] is before["a"]
    assert (now["b"].seller_id, now["c"].seller_id) == ("4", "3")
    assert pauses == ["a table"] * 2 + ["another table"] * 2
    path.write_text(AB)
    assert file.read()["b"] == before["b"], "what an older text meant is not kept, and is read again"


def test_faulty_text_that_stays_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(AB + "[accounts.tw")
    file = AccountsFile(path)
    found = []
    for _ in range(2):
        with pytest.raises(BadAccounts) as caught:
            file.read()
        found.append(caught.value.faults)
        monkeypatch.setattr(tomllib, "loads", None)
    assert found[0] == found[1]
    monkeypatch.undo()
    path.write_text(AB)
    assert list(file.read()) == ["a", "b"]
