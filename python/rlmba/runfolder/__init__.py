"""Run folders: the room that reads and writes the files of runs and projects."""
