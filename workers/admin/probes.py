"""Probes and metrics of a process. They need no token."""

from collections.abc import Sequence
from typing import Protocol

from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry

from workers.admin import exposition, responses
from workers.admin.exposition import Exposition


class Check(Struct, frozen=True, kw_only=True):
    """One condition of readiness, and its present state.

    `is_needed` is false if the process can do its work without it: an engine whose store does not answer still stores
    notifications in its journal.
    """

    name: str
    ok: bool
    detail: str = ""
    is_needed: bool = True


def is_ready(checks: Sequence[Check]) -> bool:
    """Return whether all needed checks are good."""
    return all(check.ok for check in checks if check.is_needed)


class Readiness(Protocol):
    """Returns the checks, in less than the second that a probe waits."""

    async def __call__(self) -> Sequence[Check]: ...


class ProbesPart:
    """Probes and metrics."""

    def __init__(self, *, readiness: Readiness, registry: CollectorRegistry) -> None:
        self._readiness = readiness
        self._exposition = Exposition(registry)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self.live),
            web.get("/readyz", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def live(self, request: web.Request) -> web.Response:
        """Answer 200: the event loop has just run this."""
        return _answer(request, [Check(name="loop", ok=True)])

    async def ready(self, request: web.Request) -> web.Response:
        """Answer 200 if all needed checks are good, else 503."""
        return _answer(request, await self._readiness())

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Return the metrics as OpenMetrics or in Prometheus' text format, as the request's Accept header wants it."""
        wanted = exposition.negotiated(",".join(request.headers.getall("Accept", ())))
        pieces = await self._exposition.text(wanted)
        response = web.StreamResponse(
            headers={"Content-Type": wanted.content_type, "X-Content-Type-Options": "nosniff"}  # sent before the guard
        )
        response.content_length = sum(map(len, pieces))
        await response.prepare(request)
        if request.method != "HEAD":
            for piece in pieces:
                await response.write(piece)
        return response


def _answer(request: web.Request, checks: Sequence[Check]) -> web.Response:
    ok = is_ready(checks)
    status = 200 if ok else 503
    if "verbose" in request.query:
        return responses.json({"ok": ok, "checks": list(checks)}, status=status)
    failed = ", ".join(check.name for check in checks if not check.ok)
    if not failed:
        return web.Response(text="ok")
    return web.Response(text=f"ok, but not well: {failed}" if ok else f"not ready: {failed}", status=status)
