"""What keeps the engine from starting, told so that somebody can mend it."""

from deploy.embedded.lock import AlreadyRunning
from deploy.embedded.migrations import NotUsable
from ingest.http import WrongParser
from schemas.accounts import BadAccounts
from workers.admin.guard import OpenAdmin
from workers.processing import Infrastructure

REFUSALS = (BadAccounts, AlreadyRunning, NotUsable, OpenAdmin, WrongParser, Infrastructure, OSError)


def told(error: BaseException) -> list[str]:
    """Each fault as one line."""
    if isinstance(error, BadAccounts):
        return error.faults
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return [f"{error.strerror}{where}"]
    return [str(error)]
