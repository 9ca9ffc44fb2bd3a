"""A report as a self-contained HTML page: it needs no network and no other files."""

from __future__ import annotations

from rlmba.experiments.html.page import render

__all__ = ["render"]
