"""What a new version of a JSON Schema takes from consumers of the version before.

A consumer relies on what the frozen schema promises. A later schema may promise more: new properties, and further
values of an enum, which consumers have to expect. It may not promise less, and records that are in the topics already
have to stay valid.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_BOUNDS = ("pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "const")


def losses(before: Schema, after: Schema) -> list[str]:
    """Return one text for each promise of `before` that `after` no longer keeps; none if it only adds."""
    return [*_Comparison(before, after).losses("", before, after)]


class _Comparison:
    """Two documents, whose definitions the references name."""

    def __init__(self, before: Schema, after: Schema) -> None:
        self._before = before
        self._after = after

    def losses(self, at: str, old: Schema, new: Schema) -> Iterator[str]:
        olds, news = _alternatives(old, self._before), _alternatives(new, self._after)
        if olds.keys() != news.keys():
            yield f"{at}: the type was {_named(olds)} and is {_named(news)}"
        for type_ in sorted(olds.keys() & news.keys()):
            yield from self._of_one_type(at, olds[type_], news[type_])

    def _of_one_type(self, at: str, old: Schema, new: Schema) -> Iterator[str]:
        if "enum" in old and "enum" not in new:
            yield f"{at}: the values are no longer listed"
        elif "enum" in old:
            yield from (f"{at}: the value {value!r} is gone" for value in old["enum"] if value not in new["enum"])
        elif "enum" in new:
            yield f"{at}: only some values are left"
        yield from (f"{at}: {name} has changed" for name in _BOUNDS if old.get(name) != new.get(name))
        yield from self._of_properties(at, old, new)
        if "items" in old:
            yield from self.losses(f"{at}[]", old["items"], new.get("items", {}))
        yield from self._of_further_properties(at, old.get("additionalProperties"), new.get("additionalProperties"))

    def _of_properties(self, at: str, old: Schema, new: Schema) -> Iterator[str]:
        required, now_required = set(old.get("required", ())), set(new.get("required", ()))
        properties = new.get("properties", {})
        for name, schema in old.get("properties", {}).items():
            if name not in properties:
                yield f"{at}.{name}: the property is gone"
                continue
            if name in required - now_required:
                yield f"{at}.{name}: the property is no longer always there"
            yield from self.losses(f"{at}.{name}", schema, properties[name])
        for name in sorted(now_required - required):
            yield f"{at}.{name}: the property is newly required, and records in the topics lack it"

    def _of_further_properties(self, at: str, old: Any, new: Any) -> Iterator[str]:
        if isinstance(old, dict) and isinstance(new, dict):
            yield from self.losses(f"{at}.*", old, new)
        elif isinstance(old, dict) or (new is not None and new is not True and old is not False):
            yield f"{at}: other further properties are allowed than before"


def _alternatives(schema: Schema, document: Schema) -> dict[str, Schema]:
    """The schema of each JSON type that a value may have."""
    if "$ref" in schema:
        return _alternatives(document["$defs"][schema["$ref"].removeprefix("#/$defs/")], document)
    if "anyOf" in schema:
        return {type_: each for one in schema["anyOf"] for type_, each in _alternatives(one, document).items()}
    given = schema.get("type", "string" if "enum" in schema else "any")
    return dict.fromkeys([given] if isinstance(given, str) else given, schema)


def _named(types: dict[str, Schema]) -> str:
    return " or ".join(sorted(types))
