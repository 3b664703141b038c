"""The receiver: HTTP in, verified record out. It knows signatures; what a notification means is the workers' affair."""
