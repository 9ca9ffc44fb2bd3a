"""The annotator `browser`: labeling on a page that this machine serves."""

from __future__ import annotations

from rlmba.annotators.browser.annotator import Browser
from rlmba.annotators.browser.server import ServedPage, serve, start

__all__ = ["Browser", "ServedPage", "serve", "start"]
