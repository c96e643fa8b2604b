"""Lines about a training that a person sees at the terminal, and that the log has as well."""

from __future__ import annotations

import logging

progress = logging.getLogger("lengthwise.progress")


def say(line: str) -> None:
    """Writes a line to the log, and to the terminal if a command shows its steps there."""
    progress.info(line, extra={"line": line})
