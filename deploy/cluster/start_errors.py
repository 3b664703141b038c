"""The exceptions that refuse the start of a process of the cluster engine."""

from deploy import start_errors
from deploy.cluster.settings import UnreadableFile
from deploy.cluster.topic_check import TooWeak
from workers.postgres.database import DatabaseNotUsable

REFUSALS = (*start_errors.REFUSALS, UnreadableFile, TooWeak, DatabaseNotUsable)
