"""Receipt keys in use: a view that a reload replaces."""

from deploy.receipt_keys import ReceiptKeys


def test_replacement_is_seen_by_all_that_have_the_keys_and_reported_once() -> None:
    keys, seen = ReceiptKeys(None, lambda: (b"a",)), []
    keys.watch(lambda: seen.append(tuple(keys)))
    assert (keys[0], keys[0:], len(keys)) == (b"a", (b"a",), 1)
    assert not keys.replace((b"a",))
    assert keys.replace((b"b", b"a"))
    assert seen == [(b"b", b"a")]
    assert keys


def test_process_without_a_file_has_no_keys() -> None:
    assert not ReceiptKeys()
    assert list(ReceiptKeys()) == []
