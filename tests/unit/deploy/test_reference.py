"""Generated reference pages: complete, and replaced between their marks only."""

from deploy import reference
from deploy.cluster.settings import AllSettings
from schemas import telemetry
from schemas.form import KNOWN_NAMES
from schemas.orders import State
from schemas.telemetry import Field


def test_every_setting_is_on_the_page_once() -> None:
    page = reference.settings_page()
    assert [name for name in AllSettings.model_fields if page.count(f"| `ALIPAY_NOTIFY_{name.upper()}` |") != 1] == []
    assert "| `ALIPAY_NOTIFY_ACCOUNTS` | required |" in page
    assert "| `ALIPAY_NOTIFY_KAFKA` |  |" in page


def test_every_metric_family_is_on_the_page_as_it_is_exported() -> None:
    page = reference.metrics_page()
    for family in telemetry.CATALOGUE:
        assert f"| `{family.name}{'_total' if family.kind == 'counter' else ''}` | {family.kind} |" in page


def test_every_log_field_is_on_the_page_with_its_meaning() -> None:
    fields = {value for name, value in vars(Field).items() if name.isupper()}
    assert set(telemetry.FIELDS) == fields
    assert [field for field in fields if f"| `{field}` | " not in reference.metrics_page()] == []


def test_table_of_moves_has_a_row_for_each_state() -> None:
    rows = reference.moves_table().splitlines()
    assert [row.split("**")[1] for row in rows[2:]] == [state.value for state in State]
    assert len({row.count("|") for row in rows}) == 1


def test_list_of_names_has_each_name_of_alipay() -> None:
    assert set(reference.names_list().replace("`", "").replace(",", "").split()) == {n.decode() for n in KNOWN_NAMES}


def test_only_the_part_between_the_marks_is_replaced() -> None:
    text = "before\n<!-- moves: generated -->\nold\n<!-- /moves -->\nafter\n"
    replaced = reference.replaced(text, "moves", "new")
    assert replaced == "before\n<!-- moves: generated -->\n\nnew\n\n<!-- /moves -->\nafter\n"
    assert reference.replaced(replaced, "moves", "new") == replaced
    assert reference.replaced(text, "other", "new") == text
