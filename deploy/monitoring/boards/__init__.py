"""The boards of Grafana as tables; `rendering` makes the JSON that Grafana imports."""
