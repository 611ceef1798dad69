"""MLflow: all that touches it."""
