"""Text to resources: every value keeps the file, line and column that it came from."""
