"""One checked reader for each kind of file: text, JSON and arrays.

A file may come from another version, another program or another person, and it may be truncated. Each
reader raises one error that names the file and the place in it, what was expected, what was found, and
what to do. The caller chooses the class of the error.
"""
