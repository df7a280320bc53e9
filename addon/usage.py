"""The script for mitmproxy: `mitmdump -s addon/usage.py`. It only puts the addon objects together.

Nobody imports it, and no logic belongs here: mitmproxy loads it outside `sys.modules`, and reloads it, never what it
imports.
"""

import logging
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
# cloned, it lies beside the package; in a wheel, inside it
root = str(here.parent if (here / "__init__.py").exists() else here)
if root not in sys.path:
    sys.path.insert(0, root)

addons = []
try:
    from usagetap.mitm.commands import Commands
    from usagetap.mitm.comments import Comments
    from usagetap.mitm.dashboard import Dashboard
    from usagetap.mitm.tap import Tap
    from usagetap.mitm.views import Views
    from usagetap.mitm.websocket import Sockets
    from usagetap.report.export import write_to
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    if package not in ("mitmproxy", "orjson", "peewee"):
        raise
    # While mitmproxy starts, an error in the log ends it, with this line for the last; in a proxy that runs (the script
    # was added or reloaded) it does not: traffic comes first. An exception would show a traceback instead, SystemExit
    # kill both.
    logging.getLogger("usage").error(
        "usage: the Python package %s is not installed: run `%s -m pip install mitmproxy orjson peewee`",
        package,
        sys.executable,
    )
else:
    addons = [Sockets(), Tap(), Comments(), Views(), Dashboard(), Commands(write_to)]
