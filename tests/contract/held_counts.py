"""The check that the kept counts of held notifications are those of the rows, whatever a test has done."""

from msgspec import structs

from tests.contract.engines import AnyStore
from workers.postgres.store import PostgresOrderStore
from workers.queries import HeldQuery


async def check_held_counts(store: AnyStore) -> None:
    """Compare what is kept with what is counted; in PostgreSQL before and after changes are added up."""
    await _compare(store)
    if isinstance(store, PostgresOrderStore):
        while await store.add_up_counts():
            await _compare(store)


async def _compare(store: AnyStore) -> None:
    scopes = {page.row.account for page in await store.held_list(HeldQuery(limit=50))}
    of_scopes = [HeldQuery(scope=scope) for scope in scopes]
    for query in (HeldQuery(), HeldQuery(resolved=True), *of_scopes):
        kept = await store.held_groups(query)
        assert kept == await store.held_groups(structs.replace(query, since_ms=0))
    groups, gauges = await store.held_groups(HeldQuery()), (await store.counts()).held
    assert {each.disposition: each.count for each in gauges} == {
        disposition: sum(group.count for group in groups if group.disposition is disposition)
        for disposition in {group.disposition for group in groups}
    }
    assert {each.disposition: each.oldest_ms for each in gauges} == {
        disposition: min(group.oldest_ms for group in groups if group.disposition is disposition)
        for disposition in {group.disposition for group in groups}
    }
