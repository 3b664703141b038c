"""How both engines list and count held notifications: which counts are kept, and which index a list reads. Pure."""

import heapq
import itertools
from collections.abc import Sequence

from msgspec import structs

from schemas.dispositions import HELD
from workers.queries import HeldPage, HeldQuery


def is_kept(query: HeldQuery) -> bool:
    """Return whether the stores keep the counts of this query, so that they need not count its rows."""
    return not query.ids and all(each is None for each in (query.order, query.since_ms, query.before_ms))


def until_now(query: HeldQuery, now_ms: int) -> HeldQuery:
    """Return the query without an end that is not past, because nothing is held later: its counts are kept."""
    is_past = query.before_ms is not None and query.before_ms < now_ms
    return query if is_past else structs.replace(query, before_ms=None)


def in_order(query: HeldQuery) -> Sequence[HeldQuery]:
    """Return the queries of which each reads an index in the order of the list; `oldest_first` joins their pages.

    The indexes by reason begin with the disposition, of which there are three.
    """
    if query.reason is None or query.disposition or query.order is not None or query.scope or query.resolved:
        return [query]
    return [structs.replace(query, disposition=disposition) for disposition in sorted(HELD)]


def oldest_first(pages: Sequence[Sequence[HeldPage]], limit: int) -> Sequence[HeldPage]:
    """Join pages, each of them oldest first, to one of at most `limit` rows."""
    merged = heapq.merge(*pages, key=lambda page: (page.row.first_at_ms, page.row.position))
    return list(itertools.islice(merged, limit))
