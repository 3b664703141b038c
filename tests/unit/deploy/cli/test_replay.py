"""How a replay of the log ends that cannot go on."""

from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli import main, replay
from deploy.cluster.replay import TooNarrow
from workers.errors import InfrastructureDown, TooManyDeadLetters

ENVIRON = {"ALIPAY_NOTIFY_ACCOUNTS": "accounts.toml", "ALIPAY_NOTIFY_KAFKA": "k1:9092"}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TooManyDeadLetters("20 dead records in a row"), "held list"),
        (TooNarrow("7 records lie right before the stretch"), "7 records"),
        (InfrastructureDown("Kafka: away"), "Kafka: away"),
    ],
)
def test_what_ends_it_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, error: Exception, says: str) -> None:
    async def failing(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(replay, "_replay", failing)
    told = CliRunner().invoke(main.application(), ["replay", "--from", "1h"], env=ENVIRON)
    assert told.exit_code == 1
    assert says in told.output
    assert "Traceback" not in told.output
