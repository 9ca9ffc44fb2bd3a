"""Run folders: the only room that reads and writes what a run or a project leaves on disk."""
