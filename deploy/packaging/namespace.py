"""Rewrite our modules so that they live under `alipay_notify` in the wheel.

In the tree the packages are `schemas`, `ingest`, `workers` and `deploy`. Those are names that many programs have, and
two installed packages of one name overwrite each other. So the wheel has `alipay_notify.schemas` and so on, and every
import has to say so.

Only import statements are rewritten. A text that names a module would keep the old name unseen, and fail at the user's
machine. Such a text is refused: use `__package__`, `__name__` or the module itself instead.
"""

import ast
import re
from collections.abc import Collection, Iterator

NAMESPACE = "alipay_notify"
PACKAGES = ("schemas", "ingest", "workers", "deploy")

# Functions of the standard library and of Jinja that take the name of a module or package, also one without a dot.
TAKE_NAMES = frozenset({
    "import_module", "__import__", "find_spec", "run_module", "files", "as_file", "read_text", "read_binary",
    "open_text", "open_binary", "is_resource", "contents", "get_data", "get_loader", "PackageLoader",
    "resource_filename",
})  # fmt: skip

_OURS = rf"(?:{'|'.join(PACKAGES)})"
_FROM = re.compile(rb"from[ \t]+")
_DOTTED = re.compile(rf"{_OURS}(?:\.\w+)+")
_BEGINS_DOTTED = re.compile(rf"{_OURS}\.")

_Edit = tuple[int, int, bytes, bytes]  # line from 1, column in bytes, what stands there, what replaces it


class NotMovable(Exception):
    """A module has a form of import or a text that cannot be moved. The message names the line and what to write."""


def moved(source: str, *, modules: Collection[str]) -> str:
    """Return a module's source with our imports moved under `alipay_notify`. Lines keep their numbers.

    `modules` has the dotted names of all our modules and packages as they are in the tree.

    Raises:
        NotMovable: an import binds a top-level name, is relative or is no statement, or a text names a module.
    """
    tree = ast.parse(source)
    refused = sorted(_refused(tree, modules))
    if refused:
        raise NotMovable("; ".join(f"line {line}: {why}" for line, why in refused))
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    for line, column, old, new in sorted(_edits(tree, lines), reverse=True):
        text = lines[line - 1]
        assert text[column : column + len(old)] == old, f"line {line} has another form than its syntax tree"
        lines[line - 1] = text[:column] + new + text[column + len(old) :]
    result = b"".join(lines).decode()
    left = [name for node in ast.walk(ast.parse(result)) for name in _imported(node) if _is_ours(name)]
    assert not left, f"still imports {left}"
    return result


def _edits(tree: ast.Module, lines: list[bytes]) -> Iterator[_Edit]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            assert node.module is not None
            begin = _FROM.match(lines[node.lineno - 1], node.col_offset)
            assert begin is not None, f"line {node.lineno} begins no import"
            yield node.lineno, begin.end(), node.module.encode(), f"{NAMESPACE}.{node.module}".encode()
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    bound = "" if alias.asname else f" as {alias.name}"
                    new = f"{NAMESPACE}.{alias.name}{bound}"
                    yield alias.lineno, alias.col_offset, alias.name.encode(), new.encode()


def _refused(tree: ast.Module, modules: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield the line and the fault of what cannot be moved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "a relative import; write the whole name"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if "." in alias.name and _is_ours(alias.name) and not alias.asname:
                    yield node.lineno, f"`import {alias.name}` binds a top-level name; write `from … import …`"
        elif isinstance(node, ast.Call) and _called(node) in TAKE_NAMES:
            for argument in (*node.args, *(each.value for each in node.keywords)):
                if _first_text(argument).split(".")[0] in PACKAGES:
                    yield argument.lineno, f"{_called(node)} is given the name of a package; use __package__"
        elif isinstance(node, ast.JoinedStr) and _BEGINS_DOTTED.match(_first_text(node)):
            yield node.lineno, "a text that begins with the name of a package; use __package__ or __name__"
        elif isinstance(node, ast.Constant) and _names_module(node.value, modules):
            yield node.lineno, f"the text {node.value!r} names a module; use __package__ or __name__"


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        yield node.module or ""
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def _called(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _first_text(node: ast.expr) -> str:
    """Return the text with which an expression begins, or nothing."""
    match node:
        case ast.Constant(value=str(text)) | ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            return text
        case ast.BinOp(left=left):
            return _first_text(left)
    return ""


def _names_module(value: object, modules: Collection[str]) -> bool:
    """Return whether the whole text names a module or something in it, as `deploy.cli.main:main` does."""
    if not isinstance(value, str):
        return False
    name = value.split(":")[0]
    if _DOTTED.fullmatch(name) is None:
        return False
    return any("." in each and each in modules for each in (name, name.rpartition(".")[0]))
