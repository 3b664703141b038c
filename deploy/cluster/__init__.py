"""The cluster engine: receivers, workers and consoles on Kafka, PostgreSQL and Redis.

Start with the three composition roots `receiver`, `worker` and `console`, and with `settings`, which all three read.
`topics` specifies the topics; `topic_check` keeps weak ones from being used, and `topic_diff` changes them through
`kafka_admin`. `replay` processes a span of the log again, and `doctor` checks the servers.
"""
