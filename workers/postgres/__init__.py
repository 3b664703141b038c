"""The order store of the cluster engine, on PostgreSQL.

Start with `store`, which implements the workers' ports, and `settling`, its one transaction, whose snapshot `load`
reads. `database` owns connections and deadlines; `errors` translates failures. `outbox`, `state_resend`, `feed` and
`leadership` share the sending of events among workers. `lookups` and `audit` serve operators. `migrations` is the
schema.
"""
