"""The contract of the release before, frozen in `schemas/frozen`, which the present release has to keep.

    python -m tests.support.frozen_release              with a release: freeze the contract of the commit checked out
    python -m tests.support.frozen_release REVISION     of another one

`release.yaml` has the revision, for tests that run its programs beside the present ones, and what its installations
rely on: steps of databases that are applied there, formats of records in their logs, names in their settings,
dashboards and programs. The schemas of events lie beside it. So a clone without tags can be tested too.
"""

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from schemas.event_names import SCHEMA_FILES
from tests.support import revisions
from tests.support.paths import ROOT

FROZEN = ROOT / "schemas" / "frozen"
FILE = FROZEN / "release.yaml"
STEPS = {
    "postgresql": "workers/postgres/migrations",
    "sqlite journal": "deploy/embedded/migrations/journal",
    "sqlite orders": "deploy/embedded/migrations/store",
}
METHODS = ("get", "put", "post", "delete")
_HEAD = """\
# The contract of the release before, written at each release by `make freeze`: edit it only to take something out.
# A test holds that the present release keeps it (tests/house/test_frozen_release.py).

"""


class FrozenTopic(Struct, frozen=True, kw_only=True):
    """What a topic's records rely on: the partition of a key, and that old records stay or are compacted."""

    key: str
    partitions: int
    cleanup: str


class FrozenRelease(Struct, frozen=True, kw_only=True):
    """The contract of one revision. `steps` has the SHA-256 of each step's file, by its name."""

    revision: str
    record_format: int
    topics: Mapping[str, FrozenTopic]
    settings: tuple[str, ...]
    metrics: tuple[str, ...]
    operations: tuple[str, ...]
    steps: Mapping[str, Mapping[str, str]]


def frozen() -> FrozenRelease:
    """Return the contract of the release before."""
    return msgspec.yaml.decode(FILE.read_bytes(), type=FrozenRelease)


def of_tree(tree: Path, revision: str) -> FrozenRelease:
    """Return the contract of a source tree, from its files alone: it may be of another release."""
    docs = tree / "deploy" / "docs"
    return FrozenRelease(
        revision=revision,
        record_format=int(_all(r"^VERSION = (\d+)", tree / "schemas" / "record_format.py")[0]),
        topics={
            name: FrozenTopic(key=each["key"], partitions=each["partitions"], cleanup=each["config"]["cleanup.policy"])
            for name, each in _yaml(tree / "schemas" / "topics.yaml")["topics"].items()
        },
        settings=_all(r"^\| `(ALIPAY_NOTIFY_\w+)` \|", docs / "settings.md"),
        metrics=_all(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", docs / "metrics.md"),
        operations=tuple(_operations(_yaml(tree / "schemas" / "openapi.yaml"))),
        steps={name: _digests(tree / folder) for name, folder in STEPS.items()},
    )


def losses(before: FrozenRelease, now: FrozenRelease) -> list[str]:
    """Return one text for each promise of `before` that `now` does not keep; none if it only adds."""
    return [*_losses(before, now)]


def _losses(before: FrozenRelease, now: FrozenRelease) -> Iterator[str]:
    if now.record_format < before.record_format:
        yield f"record format {before.record_format} is no longer read"
    for name, topic in before.topics.items():
        found = now.topics.get(name)
        if found is None:
            yield f"topic {name} is gone"
        elif (found.key, found.partitions, found.cleanup) != (topic.key, topic.partitions, topic.cleanup):
            yield f"topic {name}: key, partitions or cleanup have changed"
    for kind in ("settings", "metrics", "operations"):
        left: tuple[str, ...] = getattr(now, kind)
        yield from (f"{kind}: {name} is gone" for name in getattr(before, kind) if name not in left)
    for database, steps in before.steps.items():
        present = now.steps.get(database, {})
        yield from (
            f"{database}: step {name} is applied at installations, and has changed or is gone"
            for name, digest in steps.items()
            if present.get(name) != digest
        )


def _operations(document: Any) -> Iterator[str]:
    for path, item in document["paths"].items():
        yield from (f"{method.upper()} {path}" for method in METHODS if method in item)


def _digests(folder: Path) -> dict[str, str]:
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.sql"))}


def _all(pattern: str, path: Path) -> tuple[str, ...]:
    return tuple(re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE))


def _yaml(path: Path) -> Any:
    return msgspec.yaml.decode(path.read_bytes())


def main(revision: str) -> None:
    """Freeze the contract of this revision: its description, and its schemas of events."""
    whole = revisions.git("rev-parse", f"{revision}^{{commit}}").decode().strip()
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        revisions.unpack(whole, tree)
        FILE.write_bytes(_HEAD.encode() + msgspec.yaml.encode(of_tree(tree, whole)))
        for name in SCHEMA_FILES.values():
            shutil.copyfile(tree / "schemas" / name, FROZEN / name)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "HEAD")
