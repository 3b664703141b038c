"""Callbacks: order events pushed over HTTP to merchant services that read no Kafka, as Standard Webhooks.

Pure: `endpoints`, `messages` and `schedule`. `sender` runs the loops, `http` makes one attempt, to an address that
`addresses` allows. The deliveries are rows of the order store, behind the port in `deliveries`.
"""
