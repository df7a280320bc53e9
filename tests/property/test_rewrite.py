"""The rewrite keeps every other byte."""
