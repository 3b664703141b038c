"""How both engines list and count held notifications: which counts are kept, and which index a list reads. Pure."""

import heapq
import itertools
from collections.abc import Mapping, Sequence

from msgspec import structs

from schemas.dispositions import HELD, Disposition
from workers.queries import HeldCount, HeldGroup, HeldPage, HeldQuery
from workers.settlement.plan import HeldRow


def is_kept(query: HeldQuery) -> bool:
    """Return whether the stores keep the counts of this query, so that they need not count its rows.

    They keep them of snoozed and other rows together: `awake` takes the few snoozed ones away.
    """
    limits = (query.order, query.since_ms, query.before_ms, query.snoozed_at_ms)
    return not query.ids and all(each is None for each in limits)


def parts_of_awake(query: HeldQuery) -> tuple[HeldQuery, HeldQuery]:
    """Return the query of all rows, and that of the snoozed ones among them."""
    return (
        structs.replace(query, awake_at_ms=None),
        structs.replace(query, awake_at_ms=None, snoozed_at_ms=query.awake_at_ms),
    )


def oldest_awake(query: HeldQuery, group: HeldGroup) -> HeldQuery:
    """Return the query of the oldest row of a group, some of whose rows are snoozed."""
    kind = {"disposition": group.disposition, "reason": group.reason, "account": group.account}
    return structs.replace(query, **kind, after=None, limit=1)


def awake(groups: Sequence[HeldGroup], snoozed: Sequence[tuple[HeldGroup, Sequence[HeldPage]]]) -> Sequence[HeldGroup]:
    """Return the groups without the snoozed rows; each snoozed group has the page of its oldest row that is awake."""
    found = {_kind(group): group for group in groups}
    for gone, oldest in snoozed:
        known = found.pop(_kind(gone), None)
        if known is not None and known.count > gone.count and oldest:
            left = structs.replace(known, count=known.count - gone.count, oldest_ms=oldest[0].row.first_at_ms)
            found[_kind(gone)] = left
    return sorted(found.values(), key=lambda group: (-group.count, *_kind(group)))


def awake_counts(
    counts: Sequence[HeldCount], snoozed: Sequence[HeldGroup], oldest_ms: Mapping[Disposition, int]
) -> tuple[HeldCount, ...]:
    """Return the counts without the snoozed rows. `oldest_ms` is of rows that are awake, where others are not."""
    gone = {
        disposition: sum(group.count for group in snoozed if group.disposition is disposition)
        for disposition in {group.disposition for group in snoozed}
    }
    left = (
        structs.replace(
            each,
            count=each.count - gone.get(each.disposition, 0),
            oldest_ms=oldest_ms.get(each.disposition) if each.disposition in gone else each.oldest_ms,
        )
        for each in counts
    )
    return tuple(each for each in left if each.count > 0)


def _kind(group: HeldGroup) -> tuple[str, str, str]:
    return group.disposition.value, group.reason.value, group.account


def until_now(query: HeldQuery, now_ms: int) -> HeldQuery:
    """Return the query without an end that is not past, because nothing is held later: its counts are kept."""
    is_past = query.before_ms is not None and query.before_ms < now_ms
    return query if is_past else structs.replace(query, before_ms=None)


def replayed(page: HeldPage) -> HeldRow:
    """Return the row for its retry by hand, which was counted after the page was read."""
    return structs.replace(page.row, replays=page.replays + 1)


def for_task(query: HeldQuery, started_at_ms: int) -> HeldQuery:
    """Return the query of a task's rows: snoozed ones are left out, unless they are named by their ids."""
    return structs.replace(query, awake_at_ms=None if query.ids else started_at_ms)


def in_order(query: HeldQuery) -> Sequence[HeldQuery]:
    """Return the queries of which each reads an index in the order of the list; `joined` joins their pages.

    The indexes by reason begin with the disposition, of which there are three.
    """
    if query.reason is None or query.disposition or query.order is not None or query.scope or query.resolved:
        return [query]
    return [structs.replace(query, disposition=disposition) for disposition in sorted(HELD)]


def joined(pages: Sequence[Sequence[HeldPage]], query: HeldQuery) -> Sequence[HeldPage]:
    """Join the pages of `in_order`, each in the order of the query, to one."""
    merged = heapq.merge(*pages, key=lambda page: (page.row.first_at_ms, page.row.position), reverse=query.newest_first)
    return list(itertools.islice(merged, query.limit))
