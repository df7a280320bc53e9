"""usagetap: what every LLM call cost, read off the wire by a mitmproxy addon."""

__version__ = "0.1.0"
