"""An API object, or a part of one, as JSON: the one name that all modules give to it. A leaf."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
