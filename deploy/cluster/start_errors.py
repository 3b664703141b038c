"""What the cluster engine's processes are refused for, beyond what any process of ours is."""

from deploy import start_errors
from deploy.cluster.settings import Unreadable
from deploy.cluster.topic_check import TooWeak
from workers.postgres.database import NotUsable

REFUSALS = (*start_errors.REFUSALS, Unreadable, TooWeak, NotUsable)
