"""Structured logs in klog's form: ``I1121 04:11:50.123456   pid module:line] message key="value"``; or, with
``--logging-format=json``, as one JSON object a line.

Verbosity follows upstream's ``-v``: 0–1 shows information and above, 2 and more shows debug lines. Secrets never
reach a log: callers pass names and keys of objects, not objects.

Source: https://kubernetes.io/docs/concepts/cluster-administration/system-logs/#klog
"""

from __future__ import annotations

import json
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


class JsonFormatter(logging.Formatter):
    """A line of upstream's JSON: ``ts`` in milliseconds; ``v`` of what is no error, ``err`` of what was raised."""

    def format(self, record: logging.LogRecord) -> str:
        place = f"{record.name.removeprefix('tiphys.')}:{record.lineno}"
        line: dict[str, object] = {"ts": record.created * 1000, "caller": place, "msg": record.getMessage()}
        if record.levelno < logging.ERROR:
            line["v"] = 2 if record.levelno < logging.INFO else 0
        if record.exc_info:
            line |= {"err": str(record.exc_info[1]), "stacktrace": self.formatException(record.exc_info)}
        return json.dumps(line, ensure_ascii=False)


FORMATS = {"text": KlogFormatter, "json": JsonFormatter}


def configure(verbosity: int = 0, least: int = logging.INFO, form: str = "text") -> None:
    """Send logs of the process to standard error. ``verbosity`` is upstream's ``-v`` (0 to 10); below 2, nothing under
    the level ``least`` is logged. ``form`` is one of ``FORMATS``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 2 else least)
    if verbosity < 8:
        for noisy in ("asyncio", "grpc", "hpack"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
