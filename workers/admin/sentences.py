"""Sentences that the program makes in English, such as the detail of a held notification, for readers of the pages.

The store, the API and commands keep them in English. Each has one of a number of forms, in which only some parts
differ. `chinese_sentences.toml` beside the templates has the Chinese of each form, with the parts in braces:

    {name}           any text, shown as it is
    {name:one}       one word, shown as it is
    {name:word}      a word of the program, such as a disposition
    {name:sentence}  another sentence
    {name:either}    values joined by "or"

A sentence of no known form, such as a database's error, is shown as it is.
"""

import re
import string
from collections.abc import Callable, Mapping
from functools import lru_cache

from msgspec import Struct

CHARACTERS_MAX = 1000  # a longer text is no sentence of ours
KEPT_MAX = 1000
_OR = " or "
_PATTERNS = {"": "(.+?)", "one": r"([^\s:]+)", "word": r"(\w+?)", "sentence": "(.*?)", "either": "(.+?)"}


class SentenceForm(Struct, frozen=True, kw_only=True):
    """A form: the regular expression of the English, in Python and in JavaScript, and the translation in pieces.

    `parts` are name and kind of the parts that differ, in the order of the English; each of `pieces` is a text, and the
    name of the part that follows it, `None` after the last.
    """

    pattern: str
    parts: tuple[tuple[str, str], ...]
    pieces: tuple[tuple[str, str | None], ...]


class Sentences:
    """The sentences of one language, by their forms in English."""

    def __init__(self, translated: Mapping[str, str], word: Callable[[str], str]) -> None:
        self._word = word
        self._whole = {english: text for english, text in translated.items() if "{" not in english}
        self.forms = forms(translated)
        self._compiled = [(re.compile(form.pattern, re.DOTALL), form) for form in self.forms]
        self._known = lru_cache(KEPT_MAX)(self._translated)

    def of(self, text: str) -> str:
        """Return the sentence translated; as it is if it has no known form. It is not HTML."""
        return text if len(text) > CHARACTERS_MAX else self._known(text)

    def _translated(self, text: str) -> str:
        if text in self._whole:
            return self._whole[text]
        for pattern, form in self._compiled:
            if found := pattern.fullmatch(text):
                parts = zip(form.parts, found.groups(), strict=True)
                values = {name: self._part(kind, value) for (name, kind), value in parts}
                return "".join(piece + (values[name] if name else "") for piece, name in form.pieces)
        return text

    def _part(self, kind: str, value: str) -> str:
        match kind:
            case "word":
                return self._word(value.replace("_", " "))
            case "sentence":
                return self._translated(value)
            case "either":
                return self._whole.get(_OR, _OR).join(value.split(_OR))
        return value


def forms(translated: Mapping[str, str]) -> list[SentenceForm]:
    """Return the forms; those with more text of their own come first, because a part could have that text too."""
    return [_form(english, translated[english]) for english in sorted(translated, key=_own_length, reverse=True)]


def _form(english: str, translated: str) -> SentenceForm:
    parsed = list(string.Formatter().parse(english))
    named = [(name, kind or "") for _, name, kind, _ in parsed if name is not None]
    patterns = [
        re.escape(literal) + ("" if name is None else _PATTERNS[kind or ""]) for literal, name, kind, _ in parsed
    ]
    pieces = tuple((literal, name) for literal, name, _, _ in string.Formatter().parse(translated))
    return SentenceForm(pattern="".join(patterns), parts=tuple(named), pieces=pieces)


def _own_length(english: str) -> int:
    return sum(len(literal) for literal, *_ in string.Formatter().parse(english))
