"""The texts of the pages in each language.

The texts stand in the templates and scripts in English, as the argument of `t`. The file `chinese.toml` beside the
templates has the Chinese of each; a text that it lacks is shown in English. `w` does the same for a value of the
program, such as a status.
"""

import string
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources.abc import Traversable
from typing import Any

from markupsafe import Markup


class Language(StrEnum):
    """A language of the pages, by its tag in HTML."""

    ENGLISH = "en"
    CHINESE = "zh-CN"


NAMES = {Language.ENGLISH: "English", Language.CHINESE: "中文"}


class Texts:
    """The texts of one language."""

    def __init__(self, language: Language, translated: Mapping[str, str]) -> None:
        self.language = language
        self.translated = translated

    def of(self, text: str, **values: Any) -> Markup:
        """Return a page's own text as HTML, with the values escaped. It must not come from outside."""
        return Markup(self.translated.get(text, text)).format(**values)  # noqa: S704

    def word(self, value: str) -> str:
        """Return a value of the program, translated if there is a text for it; it is not HTML."""
        return self.translated.get(value, value)


ENGLISH = Texts(Language.ENGLISH, {})


def translations(file: Traversable) -> dict[str, str]:
    """Return the texts of a file, by their English.

    Raises:
        ValueError: the file has another form, or a text has other placeholders than its translation.
    """
    found: dict[str, str] = tomllib.loads(file.read_text("utf-8"))
    for english, translated in found.items():
        if placeholders(english) != placeholders(translated):
            raise ValueError(f"other placeholders in the translation of {english!r}")
    return found


def placeholders(text: str) -> set[tuple[str, str]]:
    """Return the names in braces, each with its format."""
    return {(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name is not None}
