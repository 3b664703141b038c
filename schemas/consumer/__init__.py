"""For programs that consume our events: the package `alipay_notify` of the wheel. It imports nothing else of ours."""
