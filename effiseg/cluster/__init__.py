"""The study on a Ray cluster: DVC says what is stale and keeps the results, Ray says where and when a stage runs."""
