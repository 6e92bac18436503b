"""What holds for all tests: a test's time says more about the machine than about the code, so none has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tiphys", deadline=None, print_blob=True)
settings.load_profile("tiphys")
