"""Tells the service manager how far the node is, if one wants to know (sd_notify(3))."""

import os
import socket
from contextlib import suppress

__all__ = ["notify"]


def notify(state: str) -> None:
    """Send `READY=1` or `STOPPING=1` to whoever started us. Without such a one nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    # It waits for us, or not: there is nothing else to do about a manager that has gone.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)
