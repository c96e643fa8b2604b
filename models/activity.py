"""What a training does at the moment, for whoever watches over it from another process."""

from __future__ import annotations


class Activity:
    """How far a training has come and what it began last.

    All workers of a training begin the same things in the same order, so one that has begun fewer
    is the one that the others wait for.

    Attributes:
        begun: how many things were begun so far.
        doing: the last of them.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.doing = "its start"

    def begin(self, doing: str) -> None:
        """Notes that what was done is finished, and what comes next."""
        self.doing = doing
        self.begun += 1


# Of this process, as a logger is.
activity = Activity()
