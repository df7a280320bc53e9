"""Compressed in any split equals plain."""
