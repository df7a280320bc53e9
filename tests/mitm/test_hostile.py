"""Hostile upstreams through a real mitmdump: bytes pass, memory stays."""
