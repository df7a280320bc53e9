"""The script for mitmproxy: `mitmdump -s addon/usage.py`. It only puts the addon objects together.

Nobody imports it, and no logic belongs here: mitmproxy loads it outside `sys.modules`, and reloads it, never its imports.
"""

import sys
from pathlib import Path

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    from usagetap.mitm.tap import Tap
except ModuleNotFoundError as missing:
    name = (missing.name or "").partition(".")[0]
    sys.exit(f"usagetap needs the package {name!r}: run `{sys.executable} -m pip install mitmproxy orjson peewee`")

addons = [Tap()]
