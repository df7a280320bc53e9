"""Take the local server for OpenRouter, and ask it at once. Comes before the addon's own script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "addon"))

from usagetap.mitm.resolve import Resolver

Resolver.__init__.__kwdefaults__ |= {"provider": "127.0.0.1", "delays": (0.0, 0.05, 0.05)}  # type: ignore[operator]
