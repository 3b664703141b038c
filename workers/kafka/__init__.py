"""Kafka for the workers. Read `source` (the log, as the consumer sees it), then `member` (one client in the group),
`start_offset` and `lag`; `ports` holds their limits and errors, `telemetry` their metrics.

`events` publishes the outbox's events; `clients` builds and disposes of the aiokafka clients for both directions.
"""
