"""The texts of templates and scripts, found in their sources: those in `t(…)`, and those that were forgotten."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jinja2 import Environment, nodes

# What is the same in every language: names, formats, units of code.
NAMES = {"alipay-notify", "Alipay", "CSV", "UTC", "USD", "CNY"}

_TAG = re.compile(r"<[^>]*>")
_SPOKEN = re.compile(r'\b(?:aria-label|placeholder|data-label|title|label|alt)="([^"]*)"')
_MARK = re.compile("\1([0-9]+)\1")
_LETTERS = re.compile(r"[A-Za-z]{2,}(?:[-'][A-Za-z]+)*")
_CALL = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')


def of_templates(paths: Sequence[Path]) -> set[str]:
    """The texts in `t("…")`; the first argument must be a text, not a value."""
    found = set()
    for path in paths:
        for call in Environment().parse(path.read_text("utf-8")).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ("t", "both"):
                assert isinstance(call.args[0], nodes.Const), f"{path.name}:{call.lineno}: it is given a value; use w()"
                found.add(call.args[0].value)
    return found


def strings_of_templates(paths: Sequence[Path]) -> set[str]:
    """Every string in Jinja's braces, with blanks for underscores."""
    trees = [Environment().parse(path.read_text("utf-8")) for path in paths]
    found = [node.value for tree in trees for node in tree.find_all(nodes.Const)]
    return {each.replace("_", " ") for each in found if isinstance(each, str)}


def of_scripts(paths: Sequence[Path]) -> set[str]:
    """The texts in `t("…")` of JavaScript."""
    return {text for path in paths for text in _CALL.findall(path.read_text("utf-8"))}


def outside(path: Path) -> list[str]:
    """Words of a template that a reader sees or hears, and that no `t(…)` has."""
    html, expressions = _parted(path)
    html = re.sub(r"<(style|script|code|kbd)\b[^>]*>.*?</\1>", "", html, flags=re.DOTALL)
    seen = [*_SPOKEN.findall(html), _TAG.sub(" ", html)]
    shown = [expressions[int(number)] for text in seen for number in _MARK.findall(text)]
    texts = [*(_MARK.sub(" ", text) for text in seen), *(text for each in shown for text in _strings_shown(each))]
    return [word for text in texts for word in _LETTERS.findall(text) if word not in NAMES]


def _parted(path: Path) -> tuple[str, list[str]]:
    """The HTML with a mark for each pair of braces, and what is in them."""
    html: list[str] = []
    expressions: list[str] = []
    kind_now = "data"
    for _, kind, value in Environment().lex(path.read_text("utf-8")):
        if kind == "variable_begin":
            html.append(f"\1{len(expressions)}\1")
            expressions.append("")
        if kind.endswith(("_begin", "_end")):
            kind_now = kind.removesuffix("_begin") if kind.endswith("_begin") else "data"
        elif kind == "data":
            html.append(value)
        elif kind_now == "variable":
            expressions[-1] += value
    return "".join(html), expressions


def _strings_shown(expression: str) -> Iterator[str]:
    """Strings that are shown as they are, not given to a function: `"yes" if …`, `value or "none"`."""
    (output,) = Environment().parse(f"{{{{ {expression} }}}}").find_all(nodes.Output)
    waiting: list[nodes.Node] = list(output.nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, nodes.CondExpr):
            waiting += [node.expr1, *([] if node.expr2 is None else [node.expr2])]
        elif isinstance(node, nodes.Or):
            waiting.append(node.right)
