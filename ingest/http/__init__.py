"""The public port: one protocol for a connection, with the receiver's limits, deadlines, fixed answers and drain."""
