"""The receiver's log on Kafka. Read `publisher` (one append), then `in_flight` (records without an acknowledgement).

`supervisor` replaces broken producers, `breaker` refuses appends during an outage, `producer` wraps aiokafka.
"""
