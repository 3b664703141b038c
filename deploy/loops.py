"""The event loop: uvloop where it is installed, unless told otherwise. And what the collector should leave alone."""

import asyncio
import gc
import os
from collections.abc import Callable

SWITCH = "ALIPAY_NOTIFY_UVLOOP"

# More than a batch of 500 records holds at once, all of which goes when the batch is done, and none of it in a circle:
# a collector that looks in the middle of it, as it would in each, finds nothing.
YOUNG_MAX = 50_000


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
    gc.set_threshold(YOUNG_MAX, 20, 50)
