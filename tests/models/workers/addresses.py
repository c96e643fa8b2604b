"""Addresses for workers on this machine."""

from __future__ import annotations

import socket


def free_address() -> str:
    """Returns an address on the loopback whose port is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
