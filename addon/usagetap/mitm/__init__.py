"""The edge to mitmproxy: hooks in, traffic untouched, records out."""
