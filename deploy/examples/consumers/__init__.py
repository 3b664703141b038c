"""Consumers of order events. Each applies a change once, in the order of versions, whatever arrives twice or late."""
