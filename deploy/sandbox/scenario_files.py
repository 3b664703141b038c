"""Read scenario files, and report all faults of a file at once, each with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from deploy.sandbox import scenario
from deploy.sandbox.identities import IDENTITIES
from deploy.sandbox.notifications import MessageKind
from deploy.sandbox.scenario import End, Scenario, ScenarioError, ScenarioStep
from schemas.dispositions import Flag, Reason

_DIRECTORY = Path(__file__).parent / "scenarios"
_SHARE = re.compile(r"[0-9]\.[0-9]{2}")
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{2,3})?")
_REFUNDS = (MessageKind.REFUND, MessageKind.REFUND_CLOSED, MessageKind.REFUND_ACTION, MessageKind.BATCH_REFUND)
_MOST: Mapping[str, int] = {"orders": 1000, "times": 100, "trade": 9, "merchant": 9}
_CLOSED: Mapping[str, frozenset[str]] = {
    "flags": frozenset(str(flag) for flag in Flag),
    "held": frozenset(str(reason) for reason in Reason),
    "accounts": frozenset(one.name for one in IDENTITIES),
}


def load_all(directory: Path = _DIRECTORY) -> dict[str, Scenario]:
    """Return all scenarios by name.

    Raises:
        ScenarioError: a file is not valid; the message names it.
    """
    return {path.stem: load(path) for path in sorted(directory.glob("*.toml"))}


def load(path: Path) -> Scenario:
    """Return the scenario in this file.

    Raises:
        ScenarioError: it is not valid. The text names all faults at once, each with its line.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text("utf-8")
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path.name}: {error}") from error
    faults = [f"{path.name}, {fault}" for fault in _Faults(text, raw).all()]
    if faults:
        raise ScenarioError("\n".join(faults))
    return msgspec.convert({**raw, "name": path.stem}, Scenario)


class _Faults:
    """Finds the faults of one file: settings that do not exist or have a wrong value, and steps that cannot be sent."""

    def __init__(self, text: str, raw: Mapping[str, Any]) -> None:
        self._lines = text.splitlines()
        self._raw = raw

    def all(self) -> Iterator[str]:
        """Yield each fault as one line of text."""
        tables = {name: self._raw.get(name) for name in ("step", "ends")}
        yield from self._of(_Place(self, "", 0), {**self._raw, "name": ""}, Scenario, apart=tuple(tables))
        kinds: tuple[tuple[str, type[ScenarioStep | End]], ...] = (("step", ScenarioStep), ("ends", End))
        for name, struct in kinds:
            entries = tables[name]
            if entries is None and name == "ends":
                continue
            if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
                yield f"a scenario needs at least one [[{name}]]" if name == "step" else f"{name} must be [[{name}]]"
                continue
            for number, entry in enumerate(entries, start=1):
                yield from self._of(_Place(self, name, number), entry, struct)

    def _of(
        self, place: _Place, raw: Mapping[str, Any], struct: type[msgspec.Struct], *, apart: Sequence[str] = ()
    ) -> Iterator[str]:
        hints = get_type_hints(struct)
        for name, value in raw.items():
            if name not in hints:
                close = difflib.get_close_matches(name, hints, n=1)
                meant = f"; did you mean {close[0]}?" if close else f"; settings: {', '.join(hints)}"
                yield place.fault(name, f"there is no setting {name}{meant}")
            elif name not in apart:
                yield from (place.fault(name, why) for why in _value_faults(name, value, hints[name]))
        for each in msgspec.structs.fields(struct):
            if each.required and each.name not in raw and each.name not in apart:
                yield place.fault("", f"{each.name} is missing")
        if raw.get("send") in _REFUNDS and struct is ScenarioStep and "share" not in raw:
            yield place.fault("send", f'send = {raw["send"]!r} needs a share of the amount, such as share = "0.30"')

    def line(self, table: str, number: int, setting: str) -> int | None:
        """Return the line of a setting, counted from 1; without one the line at which its table begins."""
        heads = [index for index, line in enumerate(self._lines) if line.strip().startswith(f"[[{table}]]")]
        begin = heads[number - 1] if table and number <= len(heads) else 0
        if table and not heads:
            return None
        for index in range(begin, len(self._lines)):
            line = self._lines[index].strip()
            if index > begin and line.startswith("[["):
                break
            if setting and re.match(rf"\[?(\w+\.)?{re.escape(setting)}\s*[=\].]", line):
                return index + 1
        return begin + 1


class _Place:
    """A table of the file, for the texts of its faults."""

    def __init__(self, file: _Faults, table: str, number: int) -> None:
        self._file = file
        self._table = table
        self._number = number

    def fault(self, setting: str, why: str) -> str:
        line = self._file.line(self._table, self._number, setting)
        where = [f"line {line}"] if line else []
        if self._table:
            where.append(f"step {self._number}" if self._table == "step" else f"[[ends]] {self._number}")
        return f"{', '.join(where)}: {why}"


def _value_faults(name: str, value: object, hint: Any) -> Iterator[str]:
    """Yield the faults of one setting's value."""
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        yield f"{name} = {value!r}: {_plain(str(error), hint)}"
        return
    if name in ("at", "late", "wait"):
        try:
            scenario.duration(str(value))
        except ScenarioError as error:
            yield f"{name}: {error}"
    checked = name in ("share", "refunded")
    if checked and not _SHARE.fullmatch(str(value)):
        yield f"{name} = {value!r} is no share of the amount; write 0.30 or 1.00"
    if name == "amount" and not _AMOUNT.fullmatch(str(value)):
        yield f"amount = {value!r} is no amount; write 12.80"
    if name in _MOST and not 1 <= int(str(value)) <= _MOST[name]:
        yield f"{name} must be between 1 and {_MOST[name]}"
    known = _CLOSED.get(name)
    if known is not None and isinstance(value, list):
        for word in value:
            if word not in known:
                close = difflib.get_close_matches(str(word), known, n=1)
                yield f"{name}: {word!r} is not known" + (f"; did you mean {close[0]}?" if close else "")


def _plain(text: str, hint: Any) -> str:
    if isinstance(hint, type) and issubclass(hint, MessageKind):
        return f"no such kind; kinds: {', '.join(sorted(MessageKind))}"
    return text[0].lower() + text[1:]
