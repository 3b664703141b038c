"""The consumer in Python: `python consumer.py --help`. It imports `alipay_notify.events` and nothing else of ours."""
