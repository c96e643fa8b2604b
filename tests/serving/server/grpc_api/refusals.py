"""How a call over gRPC ended."""

from __future__ import annotations

from typing import Any

import grpc
import pytest


def refused(call: Any, *arguments: Any) -> tuple[str, str]:
    """Code and text of the error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=20)
    return caught.value.code().name, caught.value.details()
