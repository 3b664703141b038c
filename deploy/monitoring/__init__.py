"""Recording rules, alerts and boards as tables, from which `python -m deploy.monitoring` writes their files.

For a source tree only. The files that it writes are installed with the program.
"""
