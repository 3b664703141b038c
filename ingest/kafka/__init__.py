"""The receiver's log on Kafka. Read `publisher` (one append), then `batches` (their way to the brokers).

`supervisor` replaces broken producers, `breaker` refuses appends during an outage, `producer` wraps aiokafka.
"""
