"""The sandbox's server: gateway, cashier, demo shop, and a page of recent deliveries.

Its port is bound before anything else, because the merchant's configuration contains the gateway's address:

    sock = server.listening("127.0.0.1", 0)
    world = World.create(directory, gateway_url=server.url_of(sock), notify_base=...)
    async with SandboxServer(world, sock=sock, admin_url=..., request_url=requests.redirect_url) as sandbox: ...
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from random import SystemRandom
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from deploy.sandbox import pages, planning, playing, resending, scenario, scenario_files
from deploy.sandbox.admin_api import AdminApi, AdminUnavailableError
from deploy.sandbox.answers import TradeQueries
from deploy.sandbox.cashier import Cashier
from deploy.sandbox.delivery import DeliveryJob, Sender
from deploy.sandbox.dropping import Dropping
from deploy.sandbox.issued import IssuedIds
from deploy.sandbox.notifications import UnplayableError
from deploy.sandbox.resending import RecentDeliveries, Resending
from deploy.sandbox.shop import RedirectUrl, Shop
from deploy.sandbox.trades import Trades
from deploy.sandbox.world import World, WorldError
from schemas.retry_profiles import Profile
from workers.admin import languages

_BODY_BYTES_MAX = 64 * 1024
_PLAYS_AT_ONCE_MAX = 50
_RESENDING_MAX = 1000  # notifications that were sent again and refused, and wait for the schedule


def listening(host: str, port: int) -> socket.socket:
    """Return a bound socket, whose address is known before the server starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def url_of(sock: socket.socket) -> str:
    """Return the URL of a bound socket, as programs on this machine reach it."""
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _run(work: Coroutine[None, None, object], tasks: set[asyncio.Task[object]]) -> None:
    """Run this in the background, as one of the tasks, and report its failure at once."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    tasks.add(task)

    def ended(task: asyncio.Task[object]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            loop.call_exception_handler({"message": "a delivery of the sandbox failed", "exception": error})

    task.add_done_callback(ended)


class SandboxServer:
    """A running simulated Alipay with its demo shop."""

    def __init__(
        self,
        world: World,
        *,
        sock: socket.socket,
        admin_url: str,
        request_url: RedirectUrl,
        admin_token: str = "",
        profile: Profile | None = None,
        time_scale: float = 1.0,
        notify_delay_s: float = 1.0,
        drop: float = 0.0,
    ) -> None:
        self.world = world
        self.url = url_of(sock)
        self.issued = IssuedIds(world.directory / "issued.log", writes=False)
        self._sock = sock
        self._admin_url = admin_url
        self._admin_token = admin_token
        self._request_url = request_url
        self._profile = profile
        self._time_scale = time_scale
        self._notify_delay_s = notify_delay_s
        self._scenarios = scenario_files.load_all()
        self._planner = planning.Planner(SystemRandom())
        self._recent = RecentDeliveries(time_scale=time_scale)
        self.dropping = Dropping(drop, SystemRandom().random)
        self.trades = Trades()
        self._plays: set[asyncio.Task[object]] = set()
        self._resending: set[asyncio.Task[object]] = set()
        self._stack = AsyncExitStack()
        self._sender: Sender | None = None
        self._admin: AdminApi | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start. When this returns, the gateway and the shop answer."""
        async with AsyncExitStack() as starting:
            http = await starting.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            self._sender = Sender(
                http=http,
                profile=self._profile,
                issued=self.issued,
                time_scale=self._time_scale,
                observer=self._recent.note,
                trades=self.trades,
                dropping=self.dropping,
            )
            self._admin = AdminApi(http=http, url=self._admin_url, token=self._admin_token)
            queries = TradeQueries(self.world, self.trades)
            cashier = Cashier(
                world=self.world,
                sender=self._sender,
                issued=self.issued,
                queries=queries,
                notify_delay_s=self._notify_delay_s,
            )
            starting.push_async_callback(cashier.close)
            starting.push_async_callback(self._stop_plays)
            runner = web.AppRunner(
                self._app(cashier, queries, http, self._admin), access_log=None, shutdown_timeout=0.5
            )
            await runner.setup()
            starting.push_async_callback(runner.cleanup)
            await web.SockSite(runner, self._sock).start()
            self._stack = starting.pop_all()

    async def stop(self) -> None:
        """Stop sending and answering; later retries are dropped."""
        await self._stack.aclose()

    async def play(self, name: str, account: str, *, wishes: planning.Wishes | None = None) -> None:
        """Play a scenario to its end, including retries.

        Raises:
            UnplayableError: the scenario does not exist or does not suit the account.
            WorldError: there is no such account.
        """
        assert self._sender is not None and self._admin is not None, "start() comes first"  # noqa: PT018
        if name not in self._scenarios:
            raise UnplayableError(f"no scenario {name!r}; scenarios: {', '.join(self._scenarios)}")
        wishes = wishes or planning.Wishes()
        courses = self._planner.plan(
            self._scenarios[name],
            self.world.account(account),
            now=datetime.now(UTC),
            base_url=self.world.notify_base,
            wishes=wishes,
        )
        # If an order cannot be registered, its notifications are sent all the same, and wait at the receiver.
        with suppress(AdminUnavailableError):
            await playing.register(self._scenarios[name], courses, self._admin, asked=False)
        await playing.play(courses, self._sender)

    def suitable(self, name: str) -> tuple[str, ...]:
        """Return the accounts that a scenario can be played for."""
        return tuple(known for known, account in self.world.accounts.items() if self._scenarios[name].suits(account))

    def start_play(self, name: str, account: str) -> bool:
        """Start to play a scenario in the background. Return `False` if too many are being played.

        Raises:
            UnplayableError: the scenario does not exist or does not suit the account.
            WorldError: there is no such account.
        """
        if name not in self._scenarios or not self._scenarios[name].suits(self.world.account(account)):
            raise UnplayableError(f"{account} does not send all notifications that {name!r} needs")
        return self._begin(lambda: self.play(name, account))

    def start_delivery(self, job: DeliveryJob, number: int) -> bool:
        """Start to deliver a notification, from its delivery `number` on. Return `False` if too much is being sent."""
        sender = self._sender
        assert sender is not None, "start() comes first"

        async def deliver() -> None:
            first = await sender.attempt(job, number=number)
            if first.again_in_s is not None and len(self._resending) < _RESENDING_MAX:
                _run(sender.resend(job, after=first), self._resending)  # it may take a day, and keeps back no other

        return self._begin(deliver)

    def _begin(self, work: Callable[[], Coroutine[None, None, None]]) -> bool:
        """Run this in the background, unless too much is running."""
        if len(self._plays) >= _PLAYS_AT_ONCE_MAX:
            return False
        _run(work(), self._plays)
        return True

    def _app(
        self, cashier: Cashier, queries: TradeQueries, http: aiohttp.ClientSession, admin: AdminApi
    ) -> web.Application:
        shop = Shop(
            world=self.world,
            http=http,
            request_url=self._request_url,
            admin=admin,
            shop_url=self.url,
        )
        app = web.Application(client_max_size=_BODY_BYTES_MAX, middlewares=[languages.choose, pages.errors, _same_site])
        resender = Resending(self._recent, self.start_delivery)
        app.add_routes([*cashier.routes(), *queries.routes(), *shop.routes(), *resender.routes()])
        app.add_routes([
            web.get("/", self._home),
            web.get("/recent", self._recent_rows),
            web.post("/scenarios", self._play_requested),
            web.post("/dropping", self._drop_requested),
            web.get("/assets/{name}", pages.asset),
            web.get("/favicon.ico", _no_icon),
        ])  # fmt: skip
        return app

    async def _home(self, _request: web.Request) -> web.Response:
        return pages.page(
            "home.html",
            title="Sandbox",
            skin="home",
            scenarios=scenario.grouped(self._scenarios.values()),
            accounts=self.world.accounts,
            receiver=self.world.notify_base,
            profile="" if self._profile is None else self._profile.name,
            time_scale=f"{self._time_scale:g}",
            rows=self._rows(),
            drops=self.dropping.share > 0,
        )

    async def _drop_requested(self, request: web.Request) -> web.StreamResponse:
        """Lose all further notifications, or none."""
        form = await request.post()
        if form.get("drop") == "all":
            self.dropping.share = 1.0
        else:
            self.dropping.release()
        raise web.HTTPSeeOther("/")

    async def _recent_rows(self, _request: web.Request) -> web.Response:
        return pages.fragment("attempt_rows.html", rows=self._rows())

    def _rows(self) -> list[dict[str, object]]:
        return [resending.row(one, self._recent, self._admin_url) for one in self._recent.newest()]

    async def _play_requested(self, request: web.Request) -> web.StreamResponse:
        """Start a scenario from the page; its deliveries appear in the list."""
        form = await request.post()
        name, account = str(form.get("scenario", "")), str(form.get("account", ""))
        try:
            started = self.start_play(name, account)
        except (UnplayableError, WorldError) as error:
            return _cannot(str(error))
        if not started:
            return _cannot("Too many scenarios are running. Try again in a moment.")
        raise web.HTTPSeeOther("/")

    async def _stop_plays(self) -> None:
        tasks = [*self._plays, *self._resending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _no_icon(_request: web.Request) -> web.Response:
    return web.Response(status=204)


def _cannot(why: str) -> web.Response:
    return pages.page("sorry.html", why=why, title="Sandbox", skin="home", status=400)


@web.middleware
async def _same_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests that another site's page posts, which a browser sends without the user's intent."""
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise web.HTTPForbidden(text="posted from another site\n")
    return await handler(request)
