"""Figures of a report.

``single`` draws the quick ones of one run; ``assemble`` all others, with the numbers they show.
"""
