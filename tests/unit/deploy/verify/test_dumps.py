"""Dumps in each notation give the parameters back, with line ends, quotes and separators in their values."""

import json
import pprint
from collections import OrderedDict

import pytest

from deploy.verify import dumps
from deploy.verify.dumps import Dump, Notation

PARAMS = {
    "gmt_create": "2026-11-30 08:00:00",
    "charset": "utf-8",
    "subject": '港式奶茶 "x" it\'s, a=b c:d 😀',
    "body": "line 1\nline 2 \\ end",
    "buyer_logon_id": "",
    "fund_bill_list": '[{"amount":"9.00","fundChannel":"ALIPAYACCOUNT"}]',
    "sign": "abc+/0123==",
    "sign_type": "RSA2",
}
ONE_LINE = {**PARAMS, "body": "line 1"}


def print_r(params: dict[str, str]) -> str:
    return "Array\n(\n" + "".join(f"    [{name}] => {value}\n" for name, value in params.items()) + ")\n"


def var_dump(params: dict[str, str]) -> str:
    lines = (f'  ["{name}"]=>\n  string({len(value.encode())}) "{value}"\n' for name, value in params.items())
    return f"array({len(params)}) {{\n{''.join(lines)}}}\n"


def var_export(params: dict[str, str]) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in params.items()}
    return "array (\n" + "".join(f"  '{name}' => '{value}',\n" for name, value in escaped.items()) + ")"


def xdebug(params: dict[str, str]) -> str:
    lines = (f"  '{name}' => string '{value}' (length={len(value)})\n" for name, value in params.items())
    return f"array (size={len(params)})\n" + "".join(lines)


def serialized(params: dict[str, str]) -> str:
    pieces = (f's:{len(n)}:"{n}";s:{len(v.encode())}:"{v}";' for n, v in params.items())
    return f"a:{len(params)}:{{{''.join(pieces)}}}"


LISTS = {name: [value] for name, value in PARAMS.items()}
DUMPS = {
    "json": json.dumps(PARAMS),
    "json indented": json.dumps(PARAMS, ensure_ascii=False, indent=2),
    "json of lists (Go, Java)": json.dumps(LISTS),
    "json in a log line": f"2026-11-30 INFO notify {{id=1}} params={json.dumps(PARAMS)} took 3 ms",
    "json in json": json.dumps({"level": "info", "data": {"params": json.dumps(PARAMS)}}),
    "json string": json.dumps(json.dumps(PARAMS)),
    "json with null": json.dumps({**PARAMS, "buyer_logon_id": None}),
    "json with an object": json.dumps(
        {**PARAMS, "fund_bill_list": json.loads(PARAMS["fund_bill_list"])[:1] * 1}
    ).replace('[{"amount": "9.00", "fundChannel": "ALIPAYACCOUNT"}]', json.dumps(PARAMS["fund_bill_list"])),
    "python dict": repr(PARAMS),
    "python pprint": pprint.pformat(PARAMS),
    "python OrderedDict": repr(OrderedDict(PARAMS)),
    "python 3.12 OrderedDict": f"OrderedDict({PARAMS!r})",
    "python list of pairs": repr(list(PARAMS.items())),
    "python bytes": repr({name.encode(): [value.encode()] for name, value in PARAMS.items()}),
    "django": f"<QueryDict: {LISTS!r}>",
    "werkzeug": f"ImmutableMultiDict({list(PARAMS.items())!r})",
    "aiohttp": "<MultiDictProxy(" + ", ".join(f"{name!r}: {value!r}" for name, value in PARAMS.items()) + ")>",
    "starlette": f"FormData({list(PARAMS.items())!r})",
    "python in a log line": f"INFO:root:notify params: {PARAMS!r}",
    "javascript": "[Object: null prototype] {\n" + ",\n".join(f"  {n}: {v!r}" for n, v in PARAMS.items()) + "\n}",
    "ruby": "{" + ", ".join(f"{json.dumps(n)}=>{json.dumps(v)}" for n, v in PARAMS.items()) + "}",
    "go %#v": "url.Values{"
    + ", ".join(f"{json.dumps(n)}:[]string{{{json.dumps(v)}}}" for n, v in PARAMS.items())
    + "}",
    "php print_r": print_r(PARAMS),
    "php print_r in one line": print_r(ONE_LINE).replace("\n", " "),
    "php var_dump": var_dump(PARAMS),
    "php var_export": var_export(PARAMS),
    "php xdebug": xdebug(PARAMS),
    "php serialize": serialized(PARAMS),
    "java": "{" + ", ".join(f"{name}={value}" for name, value in PARAMS.items()) + "}",
    "java in a log line": "INFO notify: {" + ", ".join(f"{n}={v}" for n, v in PARAMS.items()) + "} from 10.0.0.1",
    "spring": "{" + ", ".join(f"{name}=[{value}]" for name, value in PARAMS.items()) + "}",
    "groovy": "[" + ", ".join(f"{name}:{value}" for name, value in PARAMS.items()) + "]",
    "scala": "Map(" + ", ".join(f"{name} -> {value}" for name, value in PARAMS.items()) + ")",
    "go": "map[" + " ".join(f"{name}:{value}" for name, value in sorted(PARAMS.items())) + "]",
    "go url.Values": "map[" + " ".join(f"{name}:[{value}]" for name, value in sorted(PARAMS.items())) + "]",
    "lines with =": "\n".join(f"{name}={value}" for name, value in ONE_LINE.items()),
    "lines with :": "\r\n".join(f"{name}: {value}" for name, value in ONE_LINE.items()) + "\r\n",
    "lines with =>": "\n".join(f"{name} => {value}" for name, value in ONE_LINE.items()),
    "lines with tabs": "\n".join(f"{name}\t{value}" for name, value in ONE_LINE.items()),
    "lines of a log": "\n".join(f"08:00:00 INFO {name}={value}" for name, value in ONE_LINE.items()),
    "lines with a line end in a value": "\n".join(f"{name}={value}" for name, value in PARAMS.items()),
}


def as_text(dump: Dump) -> dict[str, str]:
    return {
        name if isinstance(name, str) else name.decode(): value if isinstance(value, str) else value.decode()
        for name, value in dump.pairs
    }


@pytest.mark.parametrize("name", DUMPS)
def test_dump_gives_the_parameters_back(name: str) -> None:
    found = [as_text(dump) for dump in dumps.read(DUMPS[name])]
    assert PARAMS in found or ONE_LINE in found, found


def test_python_bytes_are_kept_as_bytes() -> None:
    (dump,) = dumps.read(repr({b"subject": "茶".encode("gbk"), b"sign": b"x"}))
    assert (dump.notation, dump.pairs[0]) == (Notation.QUOTED, (b"subject", "茶".encode("gbk")))
    assert (dump.value("sign"), dump.value("absent")) == ("x", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{}",
        "[]",
        '{"a":"b"}',
        "{a=b}",
        "map[a:b]",
        "sign",
        '{"sign":"x"}',
        "array(0) {\n}",
        "Array\n(\n)\n",
    ],
)
def test_text_without_a_signature_among_parameters_is_no_dump(text: str) -> None:
    assert list(dumps.read(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "{" * 60_000,
        '{"a":' * 20_000,
        "'" * 60_000,
        "\\'" * 40_000,
        '["a"]=> string(9) "' * 6_000,
        "[a] => " * 15_000,
        "{a=b, " * 20_000,
        "map[a:b " * 15_000,
        's:1:"a";s:1:"b' * 8_000,
        "sign=1&" * 18_000,
        "('a'," * 20_000,
        "sign: 1\n" * 15_000,
    ],
)
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    assert all(len(dump.pairs) <= dumps.PAIRS_MAX for dump in dumps.read(text))
    assert len(list(dumps.events(text))) >= 0
    assert len(list(dumps.forms_in(text))) <= 2


def test_text_beyond_the_limit_is_not_read() -> None:
    text = json.dumps(PARAMS) + " " * dumps.CHARACTERS_MAX
    assert (list(dumps.read(text)), list(dumps.events(text)), list(dumps.forms_in(text))) == ([], [], [])


def test_nothing_in_a_dump_is_evaluated() -> None:
    text = "{'sign': 'x', 'a': __import__('os').system('false'), 'b': 'c'}"
    assert [as_text(dump) for dump in dumps.read(text)] == [{"sign": "x", "b": "c"}]
