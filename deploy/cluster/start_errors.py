"""What the cluster engine's processes are refused for, beyond what any process of ours is."""

from deploy import start_errors
from deploy.cluster.settings import UnreadableFile
from deploy.cluster.topic_check import TooWeak
from workers.postgres.database import DatabaseNotUsable

REFUSALS = (*start_errors.REFUSALS, UnreadableFile, TooWeak, DatabaseNotUsable)
