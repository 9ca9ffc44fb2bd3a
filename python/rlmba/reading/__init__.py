"""One checked reader for each kind of file: text, JSON, and arrays.

What is on disk may come from another version, another program or another person, and may be cut off.
These readers raise one error that names the file and the place in it, what was expected, what was
found, and what to do. The caller chooses its class, that of its own room.
"""
