"""Data sets of one's own: a table of files, texts and numbers, with labels as far as there are some."""
