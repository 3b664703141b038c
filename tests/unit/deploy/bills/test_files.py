"""Files, archives and standard input, hostile ones among them."""

import io
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.bills import files
from deploy.bills.files import BadBill
from tests.support import bills


def lines_of(path: Path) -> dict[str, list[tuple[int, bytes, bool]]]:
    with files.opened(str(path)) as bill:
        return {
            name: [(line.number, line.content, line.is_cut) for line in lines]
            for name, lines in files.members(bill, lambda count: None)
        }


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_lines_of_a_file_are_numbered_and_lose_their_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"one\r\ntwo\n\nlast")
    assert lines_of(path) == {"a.csv": [(1, b"one", False), (2, b"two", False), (3, b"", False), (4, b"last", False)]}


def test_huge_lines_are_cut_and_the_next_ones_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"x" * 1_000_000 + b"\nnext\n" + b"y" * 70_000)
    found = lines_of(path)["a.csv"]
    assert [(len(content), is_cut) for _, content, is_cut in found] == [
        (files.LINE_BYTES_MAX, True), (4, False), (files.LINE_BYTES_MAX, True),
    ]  # fmt: skip


def test_archive_yields_its_csv_files_only(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../etc/one.csv", "1")
        archive.writestr("folder/two.TXT", "2")
        archive.writestr("picture.png", "3")
        archive.writestr("__MACOSX/._one.csv", "4")
    assert list(lines_of(path)) == ["one.csv", "two.TXT"]
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_gbk_are_shown_readably(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x" * 8 + ".csv", "1")
    path.write_bytes(path.read_bytes().replace(b"x" * 8, "业务明细".encode("gbk")))
    assert list(lines_of(path)) == ["业务明细.csv"]


def test_archive_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    bomb = bills.archive(tmp_path / "a.zip", bomb=b"\n" * 40_000_000)
    with pytest.raises(BadBill, match="far more than a bill"):
        lines_of(bomb)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    sound = bills.archive(tmp_path / "a.zip", one=bytes(range(256)) * 400).read_bytes()
    for name, content in (("flipped", sound[:80] + b"\0\0\0\0" + sound[84:]), ("late", sound[:60] + sound[200:])):
        with pytest.raises(BadBill, match="archive"):
            lines_of(written(tmp_path / f"{name}.zip", content))


def test_archives_without_bills_or_with_too_many_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadBill, match=r"no \.csv"):
        lines_of(bills.archive(tmp_path / "none.zip"))
    many = {f"n{number}": b"1" for number in range(files.MEMBERS_MAX + 1)}
    with pytest.raises(BadBill, match="more than 100"):
        lines_of(bills.archive(tmp_path / "many.zip", **many))


def test_archive_with_a_huge_list_of_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(6000):
            archive.writestr(f"{'n' * 150}{number}.png", b"")
    with pytest.raises(BadBill, match="larger than"):
        lines_of(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_in_another_compression_is_refused_before_it_is_unpacked(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("bill.csv", b"\n" * 1_000_000)
    with pytest.raises(BadBill, match=r"bill\.csv .* unpack it"):
        lines_of(path)


def test_stored_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("bill.csv", b"1")
    assert lines_of(path) == {"bill.csv": [(1, b"1", False)]}


def test_size_of_the_list_that_looks_like_an_end_record_is_a_size(tmp_path: Path) -> None:
    content = bytearray(bills.archive(tmp_path / "a.zip", one=b"1").read_bytes())
    content[-10:-6] = b"PK\5\6"
    with pytest.raises(BadBill, match="larger than"):
        lines_of(written(tmp_path / "b.zip", bytes(content)))


def test_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = bills.archive(tmp_path / "a.zip", one=b"1")
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag in the local header, then in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadBill, match=r"password|encrypted"):
        lines_of(written(path, bytes(content)))


def test_missing_empty_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    for given in (tmp_path / "none.csv", tmp_path, written(tmp_path / "empty.csv", b"")):
        with pytest.raises(BadBill):
            lines_of(given)
    with pytest.raises(BadBill), files.opened("a\0b"):
        pass


def test_standard_input_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    with files.opened("-") as bill:
        ((name, lines),) = files.members(bill, lambda count: None)
        assert (name, [line.content for line in lines]) == ("standard input", [b"one", b"two"])
        assert (bill.size, len(bill.digest)) == (8, 64)
