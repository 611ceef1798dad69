"""What stage scripts share: the command line, the workspace, and MLflow."""
