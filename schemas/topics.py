"""The topics and what they hold. Names are `<domain>.<source>.<entity>.v<major>`; dots only, since Kafka's metrics fold
dots and underscores into one.

The names here are the logical ones, which events and records carry. A cluster that several shops share has them under
another first part, and `named` is the one place that knows how. What each topic has to be like stands in `topics.yaml`.
"""

import re

PREFIX = "payments"

NOTIFICATION = "payments.alipay.notification.v1"  # the signed bytes and their headers, keyed by account:order
ORDER_EVENT = "payments.order.event.v1"  # one event per visible change of an order: the product
ORDER_STATE = "payments.order.state.v1"  # compacted: the latest state of each order
HELD = "payments.notification.held.v1"  # a notice of each notification that was not simply applied

ALL = (NOTIFICATION, ORDER_EVENT, ORDER_STATE, HELD)

PREFIX_CHARACTERS_MAX = 100  # Kafka's names end at 249
_PREFIX = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)*")


def named(topic: str, prefix: str) -> str:
    """What the logical topic is called in a cluster that has ours under this prefix.

    Raises:
        ValueError: the prefix is none that a topic's name may begin with, or the topic is not one of ours.
    """
    if not _PREFIX.fullmatch(prefix) or len(prefix) > PREFIX_CHARACTERS_MAX:
        raise ValueError(f"a topic prefix is lowercase letters and digits, with dots between them: not {prefix!r}")
    if topic not in ALL:
        raise ValueError(f"{topic!r} is not one of the topics")
    return prefix + topic.removeprefix(PREFIX)
