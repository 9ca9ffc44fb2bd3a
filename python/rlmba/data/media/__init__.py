"""Data sets of media files: find the files, decode them, and cache the result."""

from __future__ import annotations
