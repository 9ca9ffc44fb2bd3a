"""Tables of a report: data, and four ways to write it.

``overview`` is light and serves single runs; ``assemble`` makes all others and needs the statistics.
"""
