"""Debian's Chromium in a cluster's network namespace, and what people do with the dashboard in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.machine import Machine


@contextmanager
def chromium(cluster: Machine) -> Iterator[Any]:
    """A browser that reaches what the cluster's machine reaches."""
    from playwright import sync_api

    wrapper = cluster.folder / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{cluster.namespace} chromium "$@"\n')
    wrapper.chmod(0o755)
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=str(wrapper), args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


class Visit:
    """One window, and what went wrong in it."""

    def __init__(self, browser: Any, url: str) -> None:
        self.context = browser.new_context(ignore_https_errors=True, viewport={"width": 1440, "height": 900})
        self.page = self.context.new_page()
        self.url = url
        self.troubles: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on(
            "console", lambda said: self.troubles.append(said.text) if "Content Security" in said.text else None
        )
        self.page.on("request", lambda request: self.hosts.add(re.sub(r"^(\w+://[^/]*).*", r"\1", request.url)))
        self.page.set_default_timeout(60_000)

    def log_in(self, words: str, by: str = "Token") -> None:
        """By a token, or by the ``Code`` that `tiphys dashboard` shows."""
        self.page.goto(self.url)
        self.page.get_by_label(by).fill(words)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("navigation", name="Main").wait_for()

    def open(self, route: str) -> None:
        self.page.evaluate("route => { location.hash = route }", route)

    def see(self, text: str) -> None:
        self.page.get_by_text(text).first.wait_for()

    def rows(self) -> list[str]:
        """The names in the table."""
        found: list[str] = self.page.locator(".vt-row a.name").all_inner_texts()
        return found

    def act(self, name: str) -> None:
        """Choose from the menu of an object's page."""
        self.button("More actions").click()
        self.page.get_by_role("menuitem", name=name, exact=True).click()

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def drawn(self, name: str) -> bool:
        """Whether the chart of this name (a regular expression) has anything in it."""
        canvas = self.page.get_by_role("img", name=re.compile(name)).first.locator("canvas")
        script = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(value => value)"
        return bool(canvas.evaluate(script))

    def close(self) -> None:
        self.context.close()
        assert self.troubles == []
        assert self.hosts <= {self.url, re.sub("^http", "ws", self.url)}, "nothing is asked of another host"
