"""Active learning with people: a folder that labels come into, round after round."""

from __future__ import annotations
