"""Runs: where the files of one lie, the records in them, and how a training becomes one."""
