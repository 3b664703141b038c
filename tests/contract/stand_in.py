"""A stand-in for our program, to see that the stack starts, finds, restarts and stops the processes it should.

    python tests/contract/stand_in.py ingest | worker | console | sandbox …
    python tests/contract/stand_in.py db upgrade … | topics apply …

It takes its ports from the same variables, has the probes and metrics, drains as a receiver does, and answers each POST
`success`. STANDIN_ANSWER=503 answers that instead; STANDIN_FAILS=topics has that command fail.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping

from aiohttp import web

PREFIX = "ALIPAY_NOTIFY_"


class Standin:
    """One process with a public port, where it has one, and an admin port."""

    def __init__(self, command: str, environ: Mapping[str, str], arguments: Mapping[str, str]) -> None:
        self._command = command
        self._environ = environ
        self._arguments = arguments
        self._is_draining = False

    async def run(self) -> None:
        runners = [await self._serve(self._admin(), self._port("ADMIN_PORT"))] if self._command != "sandbox" else []
        if self._command == "ingest":
            runners.append(await self._serve(self._public(), self._port("PORT")))
        if self._command == "sandbox":
            runners.append(await self._serve(self._public(), int(self._arguments["--port"])))
        print(json.dumps({"event": "ready"}), flush=True)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        self._is_draining = True
        await asyncio.sleep(float(self._environ.get(f"{PREFIX}DRAIN_DELAY_S", "0")))
        for runner in reversed(runners):
            await runner.cleanup()

    def _port(self, name: str) -> int:
        return int(self._environ[PREFIX + name])

    async def _serve(self, application: web.Application, port: int) -> web.AppRunner:
        runner = web.AppRunner(application, shutdown_timeout=2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    def _public(self) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            await request.read()
            status = int(self._environ.get("STANDIN_ANSWER", "200"))
            response = web.Response(text="success" if status == 200 else "fail", status=status)
            response.headers["Pid"] = str(os.getpid())
            if self._is_draining:
                response.force_close()
            return response

        application = web.Application()
        application.router.add_post("/notify/{account}", answer)
        return application

    def _admin(self) -> web.Application:
        async def ready(request: web.Request) -> web.Response:
            if request.host.partition(":")[0] not in ("127.0.0.1", "localhost"):
                return web.Response(status=403)  # as an admin port without a token does
            return web.Response(status=503 if self._is_draining else 200)

        async def metrics(request: web.Request) -> web.Response:
            return web.Response(text=f'standin_info{{command="{self._command}"}} 1\n')

        async def environment(request: web.Request) -> web.Response:
            return web.json_response({name: value for name, value in self._environ.items() if name.startswith(PREFIX)})

        application = web.Application()
        application.router.add_get("/readyz", ready)
        application.router.add_get("/metrics", metrics)
        application.router.add_get("/environment", environment)
        return application


def main(command: str, *arguments: str) -> int:
    if command in ("db", "topics"):
        print(command, *arguments, flush=True)
        return int(os.environ.get("STANDIN_FAILS") == command)
    pairs = dict(zip(arguments[::2], arguments[1::2], strict=True))
    asyncio.run(Standin(command, os.environ, pairs).run())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
