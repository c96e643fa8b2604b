"""What every inference call goes through, whichever port it came by: room, deadline, metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from serving.server.admission import Admission
from serving.server.errors import Code, ServingError, expired
from serving.server.metrics import ServingMetrics

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

# Metrics are kept for each name: a caller must not be able to make up new ones.
UNKNOWN_MODEL = "unknown"


class Calls:
    """Runs inference calls within the server's bounds and counts them."""

    def __init__(self, admission: Admission, metrics: ServingMetrics, knows: Callable[[str], bool]):
        """Makes the runner of calls.

        Args:
            admission: bounds the calls under way.
            metrics: where they are counted.
            knows: whether a model of a name is configured.
        """
        self._admission = admission
        self._metrics = metrics
        self._knows = knows

    def run(
        self, work: Callable[[], T], *, model: str, api: str, entrypoint: str, deadline: float
    ) -> T:
        """Runs one call.

        Args:
            work: does it.
            model: name of the model it asks for.
            api: method, such as ``Predict``.
            entrypoint: ``GRPC`` or ``REST``.
            deadline: time of ``time.monotonic`` after which its answer is of no use.

        Returns:
            What the work returns.

        Raises:
            ServingError: it was refused or failed.
        """
        start = time.monotonic()
        code = Code.INTERNAL
        try:
            with self._admission.call():
                if time.monotonic() >= deadline:
                    raise expired("before the call was begun")
                result = work()
            code = Code.OK
        except ServingError as error:
            code = error.code
            raise
        except Exception as error:
            _LOG.exception("%s of model %r failed", api, model)
            raise ServingError(
                Code.INTERNAL, f"{api}: {type(error).__name__}; the server's log has more"
            ) from error
        finally:
            seconds = time.monotonic() - start
            self._metrics.request(self._counted(model), api, entrypoint, code.name, seconds)
        return result

    def refuse(self, *, model: str, api: str, entrypoint: str) -> ServingError:
        """Counts a call that finds no thread to run in.

        Args:
            model: name of the model it asks for.
            api: method, such as ``Predict``.
            entrypoint: ``GRPC`` or ``REST``.

        Returns:
            The error it is answered with.
        """
        error = self._admission.overloaded()
        self._metrics.request(self._counted(model), api, entrypoint, error.code.name, 0.0)
        return error

    def _counted(self, model: str) -> str:
        return model if self._knows(model) else UNKNOWN_MODEL
