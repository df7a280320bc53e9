"""Content-Encoding, undone as it arrives."""
