"""The processes and commands of alipay-notify; the only package that may import all others.

Start with `process`, which states what all processes have in common and how they stop, then read the two engines:
`embedded` (one machine) and `cluster` (Kafka, PostgreSQL, Redis). `settings` and `doctor` are what an operator meets
first, and `cli` is the command line over all of it. `sandbox` simulates Alipay, `load` and `verify` serve one command
each, and `local` starts real servers for development and tests.
"""
