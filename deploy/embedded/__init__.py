"""The one-machine engine: a journal and an order store in SQLite, in one process.

Start with `up`, which composes the engine, and `directory`, which opens its two files. `journal` is the receiver's log
and, through `source`, the worker's input; `store` is the worker's order store, with `settling` as its one transaction.
Both stand on `sqlite` (one file on one thread). `housekeeping` runs beside the work; `demo` adds a simulated Alipay.
"""
