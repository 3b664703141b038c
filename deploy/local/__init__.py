"""Real servers and the cluster engine on one machine, for development and tests; not part of the wheel.

Read `stack` and `engine` first: they compose the servers and our processes, which `processes` starts and stops. Then
`lifecycle` shows how an operator runs a stack, and `machine` how a missing program is installed.
"""
