"""A worker that is not the chief: waits for the chief's training and takes part in it."""

from __future__ import annotations

import logging
import time

from models.progress_lines import say
from models.workers.board import Board, Sign, State
from models.workers.cluster import Cluster
from models.workers.errors import WorkerError
from models.workers.supervisor import BEAT_SECONDS, supervise

SECONDS_BETWEEN_LINES = 60.0

logger = logging.getLogger(__name__)


def take_part(cluster: Cluster, board: Board) -> bool:
    """Waits for a training and takes part in it.

    Args:
        cluster: the workers, and which of them this is.
        board: where the chief announces the training.

    Returns:
        Whether there was one; a run may end without.

    Raises:
        WorkerError: this worker or another one failed.
    """
    sign = _wait(board)
    if not sign.training:
        return False
    training = board.training()
    if training is None or training.id != sign.training:
        raise RuntimeError(f"{board.folder}: the training {sign.training} is not there")
    if cluster.index >= len(training.addresses):
        raise WorkerError(
            f"worker {cluster.index}: the chief counts {len(training.addresses)} workers, "
            f"{list(training.addresses)}; worker and run need the same configuration"
        )
    own = Cluster(addresses=training.addresses, index=cluster.index)
    if own.addresses != cluster.addresses:
        logger.warning(
            "the chief counts %s, this worker was told %s; the chief's are taken",
            list(own.addresses),
            list(cluster.addresses),
        )
    supervise(training, own, board)
    return True


def _wait(board: Board) -> Sign:
    """Returns the chief's sign once it changes; one that does not may be of an earlier run."""
    before = board.sign(0)
    reported = time.monotonic()
    while True:
        sign = board.sign(0)
        if sign is not None and sign != before and sign.state is not State.FAILED:
            return sign
        if time.monotonic() - reported > SECONDS_BETWEEN_LINES:
            reported = time.monotonic()
            say(f"waiting for the chief's training in {board.folder}")
        time.sleep(BEAT_SECONDS)
