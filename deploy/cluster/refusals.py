"""What the cluster engine's processes are refused for, beyond what any process of ours is."""

from deploy import refusals
from deploy.cluster.settings import Unreadable
from deploy.cluster.strength import TooWeak
from workers.postgres.database import NotUsable

REFUSALS = (*refusals.REFUSALS, Unreadable, TooWeak, NotUsable)
