"""The workers: from a record in the log to its order's new state and event. They know meanings, not signatures.

A worker runs four loops, composed in `app`:

    consumer      new records: poll, lock, process, commit, release. The story begins here.
    sweeper       held notifications that are due
    replays       held notifications that an operator wants retried, many at a time
    outbox_relay  events of the outbox to their topics

`restarts` restarts one that fails. The first three hand records to `processing`, which reads, decides and applies them.
The rules are in `settlement`, which is pure; `errors` draws the errors. `postgres`, `kafka` and `redis` are adapters of
the cluster engine, `admin` is the API and the console.
"""
