"""The order store of the cluster engine, on PostgreSQL."""
