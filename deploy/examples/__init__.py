"""Programs to start from: consumers of order events, in Python and for Node. A test runs both."""
