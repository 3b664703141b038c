"""Send load to a receiver and verify the outcome; `alipay-notify load` calls it.

Read `run` first: it names the steps. Then `corpus`, `senders` and `generator` sign and send, `verification` and `judge`
check the outcome, and `figures` and `report` present it.
"""
