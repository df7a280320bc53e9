"""WebSocket sessions through a real mitmdump: recorded ones, and every way to end."""
