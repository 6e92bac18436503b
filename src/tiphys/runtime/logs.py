"""Structured logs in klog's form: ``I1121 04:11:50.123456   pid module:line] message key="value"``.

Verbosity follows upstream's ``-v``: 0–1 shows information and above, 2 and more shows debug lines. Secrets never
reach a log: callers pass names and keys of objects, not objects.

Source: https://kubernetes.io/docs/concepts/cluster-administration/system-logs/#klog
"""

from __future__ import annotations

import logging
import os
import sys
import time

_LETTERS = {"DEBUG": "I", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}


class KlogFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%m%d %H:%M:%S", time.gmtime(record.created))
        micros = int(record.created % 1 * 1_000_000)
        place = f"{record.name.removeprefix('tiphys.')}:{record.lineno}"
        line = f"{_LETTERS.get(record.levelname, 'I')}{stamp}.{micros:06d} {record.process:>7} {place}] "
        line += record.getMessage()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure(verbosity: int = 0, least: int = logging.INFO) -> None:
    """Send logs of the process to standard error. ``verbosity`` is upstream's ``-v`` (0 to 10); below 2, nothing under
    the level ``least`` is logged."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KlogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 2 else least)
    if verbosity < 8:
        for noisy in ("asyncio", "grpc", "hpack"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
