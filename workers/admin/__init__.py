"""What the admin port is made of: the guard at its door, the API's parts, the probes and the console."""
