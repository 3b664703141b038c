"""The receiver: verifies notifications that arrive over HTTP and appends them to the log.

It knows signatures and accounts; it does not interpret notifications, which is the task of `workers`. `ingest.checkout`
is a library for the merchant's own server, and no part of the receiver's path.
"""
