"""The language: every shape that crosses a boundary of the house.

Pure. Nothing here does I/O, reads a clock or the environment, or imports a client library; msgspec and the standard
library are enough. `ingest`, `workers` and `deploy` speak in these words and in no others.
"""
