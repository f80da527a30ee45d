"""Debian's Chromium, driven by Playwright: one program, and in it a browser of their own for each person.

with Chromium() as chromium, chromium.window("http://127.0.0.1:8470", directory) as anna:
    tab = anna.open("/")
    anna.picture(tab, "log-in")

A window keeps whatever goes wrong in it, and leaving it raises `Trouble` for what nobody expected. What the pages
show and how they are used is told in `tests.browser.desk`."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from attrs import define, field
from playwright.sync_api import (
    Browser,
    BrowserContext,
    BrowserType,
    CDPSession,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    WebError,
    expect,
    sync_playwright,
)

from lab.tree import ensure_chromium

#: How long Playwright waits for what it is told to do, in milliseconds: the machine may be slow.
PATIENCE: Final = 15_000
#: Chromium tells it of a request that was given up because its page went away or it was told to.
_GIVEN_UP: Final = "net::ERR_ABORTED"
#: The rule on the size of what is pressed is part of WCAG 2.2 AA, but not of what axe looks for by itself.
_AXE_OPTIONS: Final[Mapping[str, Any]] = {
    "resultTypes": ["violations"],
    "rules": {"target-size": {"enabled": True}},
}


class Trouble(AssertionError):
    """Something went wrong in a window that no test expected; the message has all of it."""


@define
class Chromium:
    """The program, without a screen. The first use on a machine may install it; raises LabUnavailable."""

    _program: Path = field(init=False)
    _type: BrowserType = field(init=False, repr=False)
    _browser: Browser = field(init=False, repr=False)
    _started: ExitStack = field(factory=ExitStack, init=False, repr=False)

    def __enter__(self) -> Chromium:
        self._program = ensure_chromium()
        playwright = self._started.enter_context(sync_playwright())
        playwright.selectors.set_test_id_attribute("data-test")
        expect.set_options(timeout=PATIENCE)
        self._type = playwright.chromium
        self._browser = self._type.launch(executable_path=self._program)
        self._started.callback(self._browser.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started.close()

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Stops the whole program meanwhile, as a computer that is asleep does."""
        session = self._browser.new_browser_cdp_session()
        processes = [each["id"] for each in session.send("SystemInfo.getProcessInfo")["processInfo"]]
        session.detach()
        with ExitStack() as stopped:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
                stopped.callback(os.kill, process, signal.SIGCONT)
            yield

    @contextmanager
    def window(
        self,
        url: str,
        directory: Path,
        name: str = "window",
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        language: str = "en-GB",
        time_zone: str = "Europe/Berlin",
        expects: Sequence[str] = (),
        takes_links: bool = False,
    ) -> Iterator[Window]:
        """A browser of somebody's own, with its own cookies and storage, whose addresses begin with `url`.

        Its pictures go to `directory`. Raises Trouble at the end, unless something else has been raised, for all
        that went wrong except what `expects` (see `Window.expects`). With `takes_links` pages may register for links
        such as `tel:`, as if somebody had agreed to it; that takes a Chromium of its own, as private windows may not.
        """
        look: dict[str, Any] = {
            "base_url": url,
            "viewport": {"width": width, "height": height},
            "color_scheme": "dark" if dark else "light",
            "reduced_motion": "reduce",
            "locale": language,
            "timezone_id": time_zone,
        }
        if takes_links:
            profile = directory / f"{name}-profile"
            context = self._type.launch_persistent_context(profile, executable_path=self._program, **look)
        else:
            context = self._browser.new_context(**look)
        context.set_default_timeout(PATIENCE)
        window = Window(name, directory, context, takes_links)
        window.expects(*expects)
        window.watch()
        try:
            yield window
            window.check()
        except BaseException:
            window.picture_all("failed")
            raise
        finally:
            context.close()


# Playwright leaves a mark at whom the methods belong that it is to call.
@define(slots=False)
class Window:
    """Somebody's browser.

    @ivar trouble: what went wrong so far: errors on the console (there Chromium tells what a Content-Security-Policy
        refused, too) and in scripts, requests without an answer, and answers from 400 on.
    @ivar requests: every request that its pages have made, as `METHOD /path?query`.
    """

    name: str
    directory: Path
    _context: BrowserContext = field(repr=False)
    _takes_links: bool = False
    trouble: list[str] = field(factory=list, init=False)
    requests: list[str] = field(factory=list, init=False)
    _expected: list[str] = field(factory=list, init=False)
    _refusals: dict[str, Response] = field(factory=dict, init=False, repr=False)

    @property
    def context(self) -> BrowserContext:
        return self._context

    def watch(self) -> None:
        """From now on keep what goes wrong."""
        self._context.on("console", self._on_console)
        self._context.on("weberror", self._on_error)
        self._context.on("request", lambda request: self.requests.append(_line(request)))
        self._context.on("requestfailed", self._on_failure)
        self._context.on("response", self._on_response)

    def open(self, path: str = "/") -> Page:
        """A new tab, at that path of the server."""
        tab = self._context.new_page()
        if self._takes_links:
            # HTML, "registerProtocolHandler() automation mode": nobody is asked.
            self.devtools(tab).send("Page.setRPHRegistrationMode", {"mode": "autoAccept"})
        tab.goto(path)
        return tab

    def expects(self, *patterns: str) -> None:
        """Trouble in which one of these regular expressions is found is what the test wants to see, or its price."""
        self._expected += patterns

    def check(self) -> None:
        """Raises Trouble if there was any that is not expected."""
        unexpected = [
            each for each in self.trouble if not any(re.search(one, each) for one in self._expected)
        ]
        if unexpected:
            raise Trouble(f"in the window {self.name}:\n" + "\n".join(map(self._in_full, unexpected)))

    def _in_full(self, trouble: str) -> str:
        """With what a refusal said, which tells more than its status; a page that has gone takes it along."""
        refusal = self._refusals.get(trouble)
        with suppress(Error):
            return trouble if refusal is None else f"{trouble} {refusal.text()[:1000]}"
        return trouble

    def picture(self, tab: Page, name: str) -> Path:
        """What the tab shows, as a PNG."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{self.name}-{name}.png"
        tab.screenshot(path=path, animations="disabled")
        return path

    def picture_all(self, name: str) -> None:
        """A picture of every tab, as far as they can be had."""
        for number, tab in enumerate(self._context.pages):
            with suppress(Error):
                self.picture(tab, f"{name}-{number}")

    def devtools(self, tab: Page) -> CDPSession:
        """What the protocol of the developer tools can do to a tab, such as freezing it."""
        return self._context.new_cdp_session(tab)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.trouble.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _on_error(self, error: WebError) -> None:
        self.trouble.append(f"script: {error.error.stack or error.error.message}")

    def _on_failure(self, request: Request) -> None:
        if request.failure != _GIVEN_UP:
            self.trouble.append(f"request: {_line(request)}: {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            trouble = f"answer: {_line(response.request)}: {response.status}"
            self.trouble.append(trouble)
            self._refusals[trouble] = response


def accessibility(tab: Page, *rules: str) -> list[str]:
    """What axe-core objects to on the page as it is now, a line for each rule, with the first places.

    By all of its rules, or by those of these names, such as `color-contrast`, alone.
    """
    source = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    tab.evaluate(source)
    options = {**_AXE_OPTIONS, "runOnly": list(rules)} if rules else dict(_AXE_OPTIONS)
    found = tab.evaluate("options => axe.run(document, options)", options)
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(
            f"{' '.join(map(str, node['target']))} {node['html'][:150]} {node.get('failureSummary', '')!r}"
            for node in one["nodes"][:3]
        )
        for one in found["violations"]
    ]


def overflow(tab: Page) -> list[str]:
    """What reaches beyond the page's right edge, so that it scrolls sideways: nothing, as a rule."""
    elements: Sequence[str] = tab.evaluate(
        """() => {
            const page = document.scrollingElement;
            if (page.scrollWidth <= page.clientWidth) return [];
            const name = one => one.localName + (one.getAttribute("class") ?? "").replace(/^(?=.)| +/g, ".");
            const path = one => (one.parentElement === null ? "" : path(one.parentElement) + " ") + name(one);
            return [...document.body.querySelectorAll("*")]
                .filter(one => one.getBoundingClientRect().right > page.clientWidth + 0.5)
                .map(path);
        }"""
    )
    return list(elements)


def _line(request: Request) -> str:
    return f"{request.method} {re.sub('^[a-z]+://[^/]*', '', request.url)}"


__all__ = ["PATIENCE", "Chromium", "Error", "Trouble", "Window", "accessibility", "overflow"]
