"""Lines about a training that a person sees at the terminal, and that the log has as well."""

from __future__ import annotations

import logging

PROGRESS_LOGGER = "lengthwise.progress"

progress = logging.getLogger(PROGRESS_LOGGER)


def say(line: str) -> None:
    """Writes a line to the log, and to the terminal if a command shows its steps there."""
    progress.info(line, extra={"line": line})


def log_to_stderr() -> None:
    """Logs to stderr, which each process that trains or runs steps has in a file.

    How far a bar has come is drawn and not written: a line every two seconds would bury the others.
    """
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name != PROGRESS_LOGGER or "line" in record.__dict__)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[handler],
    )
