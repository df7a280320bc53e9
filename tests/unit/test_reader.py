"""One response body, read as it passes."""
