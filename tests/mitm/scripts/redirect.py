"""Every connection upstream goes to $REDIRECT_TO (host:port) instead: real host names without a network."""

import os

from mitmproxy.proxy.server_hooks import ServerConnectionHookData


def server_connect(hook: ServerConnectionHookData) -> None:
    """Called before the connection, and before its name is looked up."""
    host, _, port = os.environ["REDIRECT_TO"].rpartition(":")
    hook.server.address = (host, int(port))
