"""Labeling on a page that this machine serves to a browser."""

from __future__ import annotations

from rlmba.annotators.browser.annotator import Browser
from rlmba.annotators.browser.server import Server, serve, start

__all__ = ["Browser", "Server", "serve", "start"]
