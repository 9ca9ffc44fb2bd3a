"""The tables of a report, and rendering them in four formats.

``overview`` serves single runs and does not import the statistics; ``assemble`` makes all other tables.
"""
