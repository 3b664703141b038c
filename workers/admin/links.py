"""Addresses outside, to which the console links."""

from msgspec import Struct


class OutsideLinks(Struct, frozen=True, kw_only=True):
    """The folder of the runbooks, and Grafana with the boards; empty for none."""

    runbooks: str = ""
    grafana: str = ""
