"""The providers' own SDKs through a real mitmdump with the addon: they see what they see without it, and each call has
its row. Where nothing else is said, over HTTPS with mitmproxy's CA, against the fake upstream."""
