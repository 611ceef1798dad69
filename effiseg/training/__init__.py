"""Training: the task that every row shares, and the loop around it."""

COMPLETE = "COMPLETE"  # marks a checkpoint that was written to its end; holds the seconds trained so far
