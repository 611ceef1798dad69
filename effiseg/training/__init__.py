"""Training: the task that every row shares, and the loop around it."""
