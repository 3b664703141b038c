"""A logger (`ingest.log_port.Logger`) that keeps its lines."""

from typing import Any


class RecordingLogger:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info
