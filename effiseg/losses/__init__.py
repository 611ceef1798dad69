"""Losses: pure functions, and the table of terms that params.yaml weighs."""
