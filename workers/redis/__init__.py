"""Redis for the workers: read `locks` first, then `breaker`, which limits the cost of an outage, then `clients`.

Nothing here is needed for correctness; `workers.locks` explains the reason.
"""
