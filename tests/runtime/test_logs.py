"""The two forms of logs, line by line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from tiphys.runtime import logs
from tiphys.runtime.logs import JsonFormatter, KlogFormatter, LogSettings


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


@pytest.fixture
def own_logs() -> Iterator[None]:
    """What the test sets is taken back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])


@pytest.mark.usefixtures("own_logs")
def test_a_module_has_a_verbosity_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(modules={"feed": 4, "tiphys/store/*": 2, "quiet": 0})
    for name in ("tiphys.apiserver.storage.feed", "tiphys.store.sqlite", "tiphys.other"):
        logging.getLogger(name).debug("details")
        logging.getLogger(name).info("news")
    shown = [line.split("] ") for line in capsys.readouterr().err.splitlines()]
    assert [(place.split()[-1].split(":")[0], text) for place, text in shown] == [
        ("apiserver.storage.feed", "details"),
        ("apiserver.storage.feed", "news"),
        ("store.sqlite", "details"),
        ("store.sqlite", "news"),
        ("other", "news"),
    ]
    logs.configure(2, modules={"quiet": 0})
    logging.getLogger("tiphys.a.quiet").debug("details")
    logging.getLogger("tiphys.a.loud").debug("details")
    assert [line.split("] ")[0].split()[-1].split(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "a.loud"
    ]


def test_the_field_of_configuration_files() -> None:
    given = {
        "format": "json",
        "verbosity": 3,
        "flushFrequency": "5s",
        "vmodule": [{"filePattern": "feed", "verbosity": 4}],
        "options": {"json": {"infoBufferSize": "0"}, "text": {"splitStream": False}},
    }
    assert logs.read_settings(given) == LogSettings(3, "json", {"feed": 4})
    for field, value in (("format", "xml"), ("options", {"json": {"splitStream": True}}), ("vmodule", [{}])):
        with pytest.raises(ValueError, match=field):
            logs.read_settings({field: value})
