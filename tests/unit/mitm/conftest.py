"""mitmproxy's filters are written for an older pyparsing, whose deprecation warnings would be errors here."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import mitmproxy.addons  # noqa: F401
