"""What a call to a model server can end in, by either protocol."""

from __future__ import annotations

import enum


class StatusCode(enum.StrEnum):
    """The status codes of gRPC, which TF Serving's REST answers map to."""

    OK = "OK"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


# A server that was too busy or not there has not answered, so the same call may be made again.
RETRIED = frozenset({StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED})

_CODES_OF_HTTP = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    405: StatusCode.UNIMPLEMENTED,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.ABORTED,
    411: StatusCode.INVALID_ARGUMENT,
    413: StatusCode.INVALID_ARGUMENT,
    415: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


class ServingError(Exception):
    """A call that the server refused, or that did not reach it.

    Attributes:
        code: what kind of failure.
        message: what the server, or the network, said.
        attempts: how often the call was made.
        retriable: whether the same call may succeed if made again.
    """

    def __init__(
        self,
        code: StatusCode,
        message: str,
        *,
        attempts: int = 1,
        retriable: bool | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.attempts = attempts
        self.retriable = code in RETRIED if retriable is None else retriable

    def __str__(self) -> str:
        tries = f" (after {self.attempts} attempts)" if self.attempts > 1 else ""
        return f"{self.code.value}: {self.message}{tries}"


def code_of_http(status: int) -> StatusCode:
    """Returns the code that an HTTP status stands for, as TF Serving maps them."""
    if 200 <= status < 300:
        return StatusCode.OK
    fallback = StatusCode.INVALID_ARGUMENT if 400 <= status < 500 else StatusCode.INTERNAL
    return _CODES_OF_HTTP.get(status, fallback)
