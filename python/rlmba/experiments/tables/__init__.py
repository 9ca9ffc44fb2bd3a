"""Tables of a report, as data and in four formats."""
