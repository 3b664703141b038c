"""The steps of a schema as numbered SQL files: `0001_orders.sql`, `0002_…`. Both engines keep their schemas so.

How a database remembers the number of its last step is each engine's own: `workers.postgres.migrations.run` and
`deploy.embedded.migrations` apply the steps. A file holds no transaction commands; the code that runs it does.
"""

import re
from importlib import resources

from msgspec import Struct

_NAME = re.compile(r"(\d{4})_\w+\.sql")


class Migration(Struct, frozen=True):
    """One file. `name` is the file's name without `.sql`."""

    number: int
    name: str
    sql: str

    @property
    def kind(self) -> str:
        """The comment on the file's first line: on PostgreSQL `expand` or `contract`."""
        return self.sql.partition("\n")[0].removeprefix("--").strip()


def load(package: str, folder: str = "") -> list[Migration]:
    """Return the migrations in this folder of the package, in the order of their numbers.

    Raises:
        ValueError: an SQL file has another form of name, or the numbers are not 1, 2, 3 … without gaps.
    """
    files = sorted(
        (file for file in resources.files(package).joinpath(folder).iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    migrations = []
    for number, file in enumerate(files, 1):
        name = _NAME.fullmatch(file.name)
        if name is None or int(name[1]) != number:
            raise ValueError(f"migration {number} of {package} cannot be {file.name}: name it {number:04d}_subject.sql")
        migrations.append(Migration(number, file.name.removesuffix(".sql"), file.read_text("utf-8")))
    return migrations
