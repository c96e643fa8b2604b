"""Errors that a caller of the server sees, with the codes of gRPC and of HTTP."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Status codes; gRPC, TensorFlow and TensorFlow Serving number them alike."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# As TensorFlow Serving's REST server maps them.
HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

# A message of TensorFlow may quote the whole request. gRPC sends a byte that is not ASCII as three,
# and refuses an answer with more than 8 KiB beside the message.
MAX_MESSAGE_BYTES = 2000


class ServingError(Exception):
    """A request that is answered with an error.

    Attributes:
        code: its status code.
        message: text for the caller, cut to a bounded length and free of halves of characters.
        http_status: HTTP status of the answer, where it is not that of the code.
    """

    def __init__(self, code: Code, message: str, *, http_status: int | None = None):
        encoded = message.encode("utf-8", "backslashreplace")
        message = encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")
        if len(encoded) > MAX_MESSAGE_BYTES:
            message += "…"
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = HTTP_STATUS[code] if http_status is None else http_status


def invalid(message: str) -> ServingError:
    """An error for a request that cannot be right however often it is sent."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def stopping() -> ServingError:
    """An error for a call that comes, or would have to wait, while the server stops."""
    return ServingError(Code.UNAVAILABLE, "the server is shutting down")


def expired(where: str) -> ServingError:
    """An error for a call whose deadline has passed."""
    return ServingError(Code.DEADLINE_EXCEEDED, f"the deadline passed {where}")
