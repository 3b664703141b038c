"""What all tests may ask for: real servers (`tests.support.real_servers`), each started at the first test that does,
and a place for figures.
"""

from collections.abc import Callable

import pytest

pytest_plugins = ("tests.support.real_servers",)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Keeps a figure by its name: in the report, and on the terminal with `-s`."""

    def note(what: str, figure: float) -> None:
        record_property(what, round(figure, 3))
        print(f"  {what}: {figure:.2f}")

    return note
