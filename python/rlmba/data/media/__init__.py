"""Data sets of media files: what lies on disk, decoding it, and keeping it ready to read."""

from __future__ import annotations
