"""The sentences that the program makes, found in its sources: each as an example, with `x1` for each other part.

A sentence is a text with a blank in it. It is given to a call that makes an error or a disposition, assigned to a name
for it, or returned.
"""

import ast
from collections.abc import Iterator
from itertools import product

from tests.support.paths import ROOT

PART = "x1"
MAKERS = frozenset(
    {
        "ApiError", "BadAnswer", "BadForm", "BadHeader", "BadMessage", "BadMoney", "BadRecord", "BadTime",
        "CallbackAnswer", "DecisionRefused", "ForbiddenAddress", "Malformed", "NewerRecord", "NotConfirmed", "NotOurs",
        "ProcessEnded", "ReadTooSlow", "Signature", "Unauthentic", "Unreadable", "Unverified", "__init__", "_disposed",
        "_refuse", "bad_request", "differ", "quarantine", "unreadable",
    }
)  # fmt: skip
NAMES = frozenset({"DETAILS", "GONE", "LOCKED", "OTHERWISE", "WAYS", "detail", "details", "why"})


def of_modules(paths: list[str]) -> set[str]:
    """Return the sentences of these modules."""
    return {sentence for path in paths for sentence in _Module(path).sentences() if " " in sentence}


class _Module:
    def __init__(self, path: str) -> None:
        self._tree = ast.parse((ROOT / path).read_text("utf-8"))
        self._constants = {
            target.id: node.value.value
            for node in self._tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value.value, str)
        }

    def sentences(self) -> Iterator[str]:
        for node in ast.walk(self._tree):
            for expression in self._given(node):
                yield from self._examples(expression) or ()

    def _given(self, node: ast.AST) -> list[ast.expr]:
        if isinstance(node, ast.Call) and _last_name(node.func) in MAKERS:
            return [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(node, ast.Assign) and any(_last_name(target) in NAMES for target in node.targets):
            return list(_members(node.value))
        return list(_members(node.value)) if isinstance(node, ast.Return) and node.value is not None else []

    def _examples(self, node: ast.expr) -> list[str]:
        """Return each text that the expression may have; none if it is no text."""
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.Name(id=name) if name in self._constants:
                return [self._constants[name]]
            case ast.IfExp():
                return [*self._examples(node.body), *self._examples(node.orelse)]
            case ast.JoinedStr():
                return ["".join(parts) for parts in product(*map(self._of_part, node.values))]
            case ast.BinOp(op=ast.Add()):
                left, right = self._examples(node.left), self._examples(node.right)
                return [a + b for a, b in product(left or [PART], right or [PART])] if left or right else []
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="format")) if name in self._constants:
                return [self._constants[name].replace("{reason}", PART)]
        return []

    def _of_part(self, node: ast.expr) -> list[str]:
        if isinstance(node, ast.FormattedValue):
            return self._examples(node.value) or [PART]
        return self._examples(node)


def _members(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Tuple(elts=members) | ast.Dict(values=members):
            yield from members
        case ast.BoolOp(values=members):
            yield from members
        case _:
            yield node


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
