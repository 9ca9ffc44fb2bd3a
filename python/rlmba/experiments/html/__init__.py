"""A report as one HTML page that needs nothing else: no network, no file beside it."""

from __future__ import annotations

from rlmba.experiments.html.page import render

__all__ = ["render"]
