"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# hypothesis' own 200 ms an example is a time, and a busy machine breaks it: growth is what our tests assert
settings.register_profile("usagetap", deadline=None)
settings.load_profile("usagetap")
