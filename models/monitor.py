"""What training does at the moment, in the log, at the terminal and in TensorBoard."""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections.abc import Mapping

import tensorflow as tf

from models.progress_lines import say
from models.tally import Tally

SECONDS_BETWEEN_LINES = 60.0
TENSORBOARD_FOLDER = "tensorboard"

logger = logging.getLogger(__name__)


class TrainingMonitor:
    """Sums the steps up and reports a line a minute.

    Args:
        folder: for the files of TensorBoard; none are written without one.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._writer = tf.summary.create_file_writer(folder) if folder else None
        self._window = Tally()
        self._reported = time.monotonic()

    def add(self, step: Tally, title: str, global_step: int) -> None:
        """Counts one step in.

        Args:
            step: what the step did.
            title: how the line calls the epoch.
            global_step: number of the step over all epochs.
        """
        self._window.add(step)
        if time.monotonic() - self._reported < SECONDS_BETWEEN_LINES:
            return
        self._reported = time.monotonic()
        window, self._window = self._window, Tally()
        memory = memory_mb()
        line = (
            f"{title}, step {global_step}: {window.examples_per_second:,.0f} examples/s, "
            f"{window.tokens_per_second:,.0f} tokens/s, {window.padding_share:.0%} padding, "
            f"{window.input_wait_share:.0%} waiting for input, {memory:,.0f} MB, "
            f"loss {window.mean_loss:.4f}"
        )
        say(line)
        self.write(
            {
                "train/loss": window.mean_loss,
                "train/examples_per_second": window.examples_per_second,
                "train/tokens_per_second": window.tokens_per_second,
                "train/padding_share": window.padding_share,
                "train/input_wait_share": window.input_wait_share,
                "train/memory_mb": memory,
            },
            global_step,
        )

    def write(self, values: Mapping[str, float], global_step: int) -> None:
        """Writes scalars for TensorBoard.

        Args:
            values: by tag.
            global_step: number of the step over all epochs.
        """
        if self._writer is None:
            return
        try:
            with self._writer.as_default(step=global_step):
                for tag, value in values.items():
                    tf.summary.scalar(tag, value)
            self._writer.flush()
        except tf.errors.OpError as error:
            # No figure is worth a training. Where the disk is full, the next checkpoint says so.
            logger.warning("TensorBoard's figures of step %d: %s", global_step, error.message)


def memory_mb() -> float:
    """Returns the memory of this process, in MB: now on Linux, at its peak elsewhere."""
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
