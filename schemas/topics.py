"""The topics and what they hold. Names are `<domain>.<source>.<entity>.v<major>`; dots only, since Kafka's metrics fold
dots and underscores into one."""

NOTIFICATION = "payments.alipay.notification.v1"  # the signed bytes and their headers, keyed by account:order
ORDER_EVENT = "payments.order.event.v1"  # one event per visible change of an order: the product
ORDER_STATE = "payments.order.state.v1"  # compacted: the latest state of each order
HELD = "payments.notification.held.v1"  # a notice of each notification that was not simply applied
