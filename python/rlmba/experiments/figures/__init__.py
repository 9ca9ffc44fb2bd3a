"""The figures of a report.

``single`` draws those of a single run; ``assemble`` draws all others, with the numbers they show.
"""
