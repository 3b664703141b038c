"""The public port: aiohttp's low-level server with the receiver's limits, deadlines, fixed answers and drain."""
