"""YAML texts as plain values: one way to read them. The library is imported when the first is read.

Source: https://yaml.org/spec/1.2.2/, of which PyYAML reads 1.1, as upstream's library does.
"""

from __future__ import annotations

from typing import Any


class YAMLError(ValueError):
    """The text is not YAML; the message, one line, says where and why."""


def load(text: str | bytes) -> Any:
    """The one document of a text; None for an empty one. Raises ``YAMLError``."""
    documents = load_all(text)
    if len(documents) > 1:
        raise YAMLError("it holds more than one document")
    return documents[0] if documents else None


def load_all(text: str | bytes) -> list[Any]:
    """All documents of a text. Raises ``YAMLError``."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return list(yaml.load_all(text, Loader=loader))
    except yaml.YAMLError as error:
        raise YAMLError(" ".join(str(error).split())) from error
    except UnicodeDecodeError as error:
        raise YAMLError(f"it is not UTF-8: {error.reason}") from error
    except (ValueError, RecursionError) as error:  # a date that is none; a thousand brackets
        raise YAMLError(str(error) or "it nests too deeply") from error
