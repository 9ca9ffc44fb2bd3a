"""The user's own data: a table of files, texts and numbers, with labels for some or all rows."""
