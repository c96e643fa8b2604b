"""How long a call may wait for its message, in looks that the test makes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

from serving.server.grpc_api.arrivals import Arrivals

MOST = 2


class Caller:
    """A call whose message comes when the test says so; stands for its context too."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.sent = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        self.asked.set()
        assert self.sent.wait(20)
        yield b"message"


@pytest.fixture
def arrivals() -> Arrivals:
    found = Arrivals(2.0, MOST)
    found.close()
    found._watcher.join()
    return found


def test_the_oldest_of_too_many_are_given_up_after_a_grace(arrivals: Arrivals) -> None:
    callers = [Caller() for _ in range(MOST + 2)]
    with futures.ThreadPoolExecutor(len(callers)) as pool:
        calls = []
        for caller in callers:
            context: Any = caller
            calls.append(pool.submit(arrivals.receive, iter(caller), context))
            assert caller.asked.wait(20)

        # However much time passes: only a look in time is time that the client let pass.
        looks = [arrivals._late(0.125) for _ in range(4)]

        assert looks == [[], [], [], callers[:2]]
        assert [arrivals._late(0.5) for _ in range(2)] == [[], []]
        assert arrivals._late(0.5) == callers[2:]
        for caller in callers:
            caller.sent.set()
        assert {call.result(20) for call in calls} == {b"message"}


def test_a_message_that_came_is_waited_for_no_more(arrivals: Arrivals) -> None:
    caller: Any = Caller()
    caller.sent.set()

    assert arrivals.receive(iter(caller), caller) == b"message"
    assert arrivals._late(100.0) == []
