"""Every host name is 127.0.0.1, at the port that the client named: real host names without a network.

(Unlike with `redirect.py` the flow, too, keeps the name after a CONNECT.)
"""

import socket
from typing import Any

_getaddrinfo = socket.getaddrinfo


def _here(_host: Any, *arguments: Any, **named: Any) -> Any:
    return _getaddrinfo("127.0.0.1", *arguments, **named)


socket.getaddrinfo = _here  # type: ignore[assignment]
