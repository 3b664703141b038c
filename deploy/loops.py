"""The event loop: uvloop where it is installed, unless told otherwise. And what the collector should leave alone."""

import asyncio
import gc
import os
from collections.abc import Callable

SWITCH = "ALIPAY_NOTIFY_UVLOOP"


def factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loop, or `None` for asyncio's own."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def settle_garbage() -> None:
    """Called once everything is built: what lives as long as the process is not looked through again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
