"""The workers: from a verified record to the order's new state and its event. They know meaning, not signatures."""
