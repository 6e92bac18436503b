"""The two forms of logs, line by line."""

from __future__ import annotations

import json
import logging

from tiphys.runtime.logs import JsonFormatter, KlogFormatter


def record(level: int, error: Exception | None = None) -> logging.LogRecord:
    made = logging.LogRecord("tiphys.apiserver.x", level, "x.py", 7, '%s is "%d"\nthere', ("näme", 5), None)
    made.created, made.process = 1_767_225_600.25, 42
    if error is not None:
        made.exc_info = (type(error), error, None)
    return made


def test_json_is_one_line_with_upstreams_keys() -> None:
    line = JsonFormatter().format(record(logging.INFO))
    assert "\n" not in line
    shown = {"ts": 1_767_225_600_250.0, "caller": "apiserver.x:7", "msg": 'näme is "5"\nthere', "v": 0}
    assert json.loads(line) == shown
    assert json.loads(JsonFormatter().format(record(logging.DEBUG)))["v"] == 2


def test_errors_have_no_verbosity_but_what_was_raised() -> None:
    line = json.loads(JsonFormatter().format(record(logging.ERROR, ValueError("no"))))
    assert "v" not in line
    assert (line["err"], line["stacktrace"]) == ("no", "ValueError: no")


def test_text_is_klogs() -> None:
    assert (
        KlogFormatter()
        .format(record(logging.WARNING))
        .startswith('W0101 00:00:00.250000      42 apiserver.x:7] näme is "5"')
    )
