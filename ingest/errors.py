"""The receiver's errors, each with the status of its answer.

    Refused
    ├── Malformed        400   no valid form, or no valid Antom headers
    ├── Unauthentic      401   no key of the account made the signature
    ├── NotConfirmed     401   notify_verify answered "false"
    ├── NotOurs          403   authentic, but for another merchant
    ├── NoSuchAccount    404
    ├── WrongMethod      405
    ├── TooSlow          408
    ├── TooLarge         413
    ├── Unsupported      415   media type or content encoding
    ├── Throttled        503   in-flight limit reached; Alipay sends again
    └── Unavailable      503   not durable, or not confirmed, in time

An answer is a fixed text of the account's family. Neither the request nor the error's message is echoed in it.
"""

from typing import ClassVar

from schemas.dispositions import Outcome, Refusal


class Refused(Exception):
    """The request is not answered `success`."""

    status: ClassVar[int]
    outcome: ClassVar[Outcome]

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason


class Malformed(Refused):
    status = 400
    outcome = Outcome.MALFORMED


class Unauthentic(Refused):
    status = 401
    outcome = Outcome.BAD_SIGNATURE


class NotConfirmed(Refused):
    status = 401
    outcome = Outcome.NOT_CONFIRMED

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.NOT_CONFIRMED, detail)


class NotOurs(Refused):
    status = 403
    outcome = Outcome.NOT_OURS

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.NOT_OURS, detail)


class NoSuchAccount(Refused):
    status = 404
    outcome = Outcome.UNKNOWN_ACCOUNT


class WrongMethod(Refused):
    status = 405
    outcome = Outcome.UNSUPPORTED

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.METHOD, detail)


class TooSlow(Refused):
    status = 408
    outcome = Outcome.TOO_SLOW

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.TOO_SLOW, detail)


class TooLarge(Refused):
    status = 413
    outcome = Outcome.TOO_LARGE

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.TOO_LARGE, detail)


class Unsupported(Refused):
    status = 415
    outcome = Outcome.UNSUPPORTED


class Throttled(Refused):
    status = 503
    outcome = Outcome.THROTTLED

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.THROTTLED, detail)


class Unavailable(Refused):
    status = 503
    outcome = Outcome.UNAVAILABLE

    def __init__(self, detail: str = "") -> None:
        super().__init__(Refusal.UNAVAILABLE, detail)
