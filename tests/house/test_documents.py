"""The documents: generated pages are current, and what the others name exists."""

import ast
import json
import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec.yaml
import pytest
import typer.main

from deploy import account_settings, reference
from deploy.cli import main
from deploy.cluster.settings import ClusterSettings
from deploy.monitoring import files
from deploy.settings import EmbeddedSettings
from ingest.settings import PREFIX
from tests.benchmarks import capacity
from tests.support.paths import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "deploy/docs").glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
NO_SETTINGS = {"ALIPAY_NOTIFY_UVLOOP"}  # read before the settings are
README_WORDS_MAX = 1000
CHINESE = "deploy/docs/README.zh-CN.md"
NOT_RUN = {"java", "go"}  # languages of examples that no test runs, and that say so

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@pytest.mark.parametrize("path", reference.pages(), ids=lambda path: path.name)
def test_generated_page_equals_the_code(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference.pages()[path], "run: python -m deploy.reference"


def test_capacity_page_is_computed_from_its_figures() -> None:
    text = capacity.PAGE.read_text(encoding="utf-8")
    again = "run: python -m tests.benchmarks.capacity --write"
    assert f"{capacity.BEGIN}\n{capacity.tables(capacity.published())}\n{capacity.END}\n" in text, again


def test_readme_fits_on_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= README_WORDS_MAX


@each_document
def test_every_command_exists_with_its_options(document: Path) -> None:
    root = typer.main.get_command(main.application())
    for words, rest in re.findall(
        r"alipay-notify ((?:[a-z][a-z-]* ?){1,2})(.*?) *(?:#|$)", code(document), re.MULTILINE
    ):
        command: Any = root
        for word in words.split():
            commands = getattr(command, "commands", None)
            if commands is not None:
                assert word in commands, f"no command {word} in alipay-notify {words}"
                command = commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in options, f"alipay-notify {words} has no {option}"


@each_document
def test_every_link_and_file_name_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    linked = [path for path in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) if "://" not in path]
    missing = [path for path in linked if not (document.parent / path).exists()]
    named = re.findall(r"`((?:schemas|ingest|workers|deploy|tests)/[\w./]+)`", text)
    assert [*missing, *(path for path in named if not (ROOT / path).exists())] == []


@each_document
def test_every_heading_that_a_link_names_exists(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text(encoding="utf-8"))
    inside = [(document.parent / path if path else document, name) for path, name in links if "://" not in path]
    assert [(path.name, name) for path, name in inside if path.suffix == ".md" and name not in headings(path)] == []


def headings(document: Path) -> set[str]:
    """The names by which a forge links to the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in found}


def test_monitoring_page_names_every_alert_under_its_severity() -> None:
    page = (ROOT / "deploy/docs/monitoring.md").read_text(encoding="utf-8")
    lists = re.search(r"Pages:\n(.*?)\nTickets: (.*?)\. A notice: (.*?)\.\n", page, re.DOTALL)
    assert lists is not None
    named = dict(zip(("critical", "warning", "info"), map(words_of, lists.groups()), strict=True))
    wanted: dict[str, set[str]] = {severity: set() for severity in named}
    for file in (files.ALERTS, files.RECORDINGS):
        for group in msgspec.yaml.decode(file.read_bytes())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule and not rule["alert"].endswith("BudgetBurnSlow"):  # "the slow burns"
                    wanted[rule["labels"]["severity"]].add(rule["alert"].removeprefix("AlipayNotify"))
    assert {severity: wanted[severity] - named[severity] for severity in named} == {each: set() for each in named}
    elsewhere = {
        name for severity in named for name in named[severity] for other in wanted if other != severity
        if name in wanted[other]
    }  # fmt: skip
    assert elsewhere == set()


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_every_document_is_reachable_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in DOCUMENTS[1:] if str(path.relative_to(ROOT)) not in text] == []


def test_chinese_readme_has_the_same_examples_tables_and_chapters() -> None:
    """Its examples are run as those of the README."""
    english, chinese = ((ROOT / path).read_text(encoding="utf-8") for path in ("README.md", CHINESE))
    for pattern in (r"^```.*?^```$", r"^ {4}\S.*$"):
        flags = re.MULTILINE | (re.DOTALL if "`" in pattern else 0)
        assert re.findall(pattern, chinese, flags) == re.findall(pattern, english, flags)
    for pattern in (r"^## ", r"^\|", r"^- "):
        found = [len(re.findall(pattern, text, re.MULTILINE)) for text in (chinese, english)]
        assert found[0] == found[1], pattern
    english_links, chinese_links = (linked_from(ROOT / path) for path in ("README.md", CHINESE))
    assert english_links - chinese_links == {ROOT / CHINESE}


def linked_from(document: Path) -> set[Path]:
    """The files of the tree that a document links to."""
    paths = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    return {(document.parent / path).resolve() for path in paths if "://" not in path}


def test_page_for_language_models_leads_to_every_document() -> None:
    page = ROOT / "deploy/docs/llms.txt"
    linked = [
        (page.parent / path).resolve() for path in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert [path for path in linked if not path.exists()] == []
    policy = ROOT / ".github/SECURITY.md"
    assert [path.name for path in DOCUMENTS if path not in (*linked, policy)] == []


@each_document
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE)) <= targets


@each_document
def test_every_environment_variable_is_a_setting(document: Path) -> None:
    named = set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", document.read_text(encoding="utf-8"))) - NO_SETTINGS
    known = {f"{PREFIX}{name.upper()}" for name in {**EmbeddedSettings.model_fields, **ClusterSettings.model_fields}}
    assert named <= known


@each_document
def test_every_account_setting_of_an_example_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    indented = re.findall(r"^(?: {4}.*\n|\n(?= {4}))+", text, re.MULTILINE)
    fenced = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    examples = [block for block in (*map(textwrap.dedent, indented), *fenced) if "[accounts." in block]
    for table in (table for block in examples for table in tomllib.loads(block)["accounts"].values()):
        assert table.keys() <= account_settings.SETTINGS.keys()


@each_document
def test_every_code_block_can_be_parsed(document: Path) -> None:
    readers: dict[str, Callable[[str], object]] = {
        "python": ast.parse, "toml": tomllib.loads, "json": json.loads, "yaml": msgspec.yaml.decode
    }  # fmt: skip
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S):
        assert language in {*readers, "sh", "js", *NOT_RUN}
        assert language not in NOT_RUN or block.startswith("// Not run.")
        readers.get(language, str)(block)


def code(document: Path) -> str:
    """The indented and the fenced shell lines of a document, and the commands inside its sentences."""
    text = document.read_text(encoding="utf-8")
    inline = re.findall(r"`(alipay-notify [^`]+)`", text)
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*(line for line in text.splitlines() if line.startswith("    ")), *fenced, *inline])
