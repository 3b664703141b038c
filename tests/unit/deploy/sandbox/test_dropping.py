"""A notification is lost for good, or not at all."""

from deploy.sandbox.dropping import Dropping


def test_notification_is_lost_at_each_delivery_or_at_none() -> None:
    chances = iter((0.2, 0.7))
    dropping = Dropping(0.5, lambda: next(chances))
    assert [dropping.takes(name) for name in ("n-1", "n-2", "n-1", "n-2")] == [True, False, True, False]


def test_after_the_release_all_arrive() -> None:
    dropping = Dropping(1.0, lambda: 0.999)
    assert dropping.takes("n-1")
    dropping.release()
    assert not dropping.takes("n-1")
