"""Issued notification ids: confirmed to their partner, until answered, across processes."""

from __future__ import annotations

from pathlib import Path

from deploy.sandbox.issued import IssuedIds


def test_id_is_confirmed_until_it_is_answered() -> None:
    issued = IssuedIds()
    issued.issue("2088a", "id-1")
    assert issued.confirm(partner="2088a", notify_id="id-1") == "true"
    issued.settle("id-1")
    assert issued.confirm(partner="2088a", notify_id="id-1") == "false"


def test_id_is_confirmed_to_its_partner_only() -> None:
    issued = IssuedIds()
    issued.issue("2088a", "id-1")
    assert issued.confirm(partner="2088b", notify_id="id-1") == "false"
    assert issued.confirm(partner="2088a", notify_id="id-2") == "false"


def test_query_without_its_parameters_is_invalid() -> None:
    issued = IssuedIds()
    assert issued.confirm(partner="", notify_id="id-1") == "invalid"
    assert issued.confirm(partner="2088a", notify_id="") == "invalid"


def test_ids_of_another_process_are_known(tmp_path: Path) -> None:
    gateway, trigger = IssuedIds(tmp_path / "issued"), IssuedIds(tmp_path / "issued")
    assert gateway.confirm(partner="2088a", notify_id="id-1") == "false"
    trigger.issue("2088a", "id-1")
    assert gateway.confirm(partner="2088a", notify_id="id-1") == "true"
    trigger.settle("id-1")
    assert gateway.confirm(partner="2088a", notify_id="id-1") == "false"


def test_gateway_does_not_write_to_the_shared_file(tmp_path: Path) -> None:
    gateway = IssuedIds(tmp_path / "issued", writes=False)
    gateway.issue("2088a", "id-1")
    gateway.settle("id-1")
    assert not (tmp_path / "issued").exists()


def test_incomplete_line_is_left_for_the_next_read(tmp_path: Path) -> None:
    shared = tmp_path / "issued"
    gateway = IssuedIds(shared)
    shared.write_bytes(b"+ 2088a id-")
    assert gateway.confirm(partner="2088a", notify_id="id-1") == "false"
    with shared.open("ab") as file:
        file.write(b"1\n")
    assert gateway.confirm(partner="2088a", notify_id="id-1") == "true"
