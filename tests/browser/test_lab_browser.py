"""The browser of the lab sees what goes wrong in a page, and fails the test that did not expect it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.browser import Chromium, Trouble, accessibility, overflow
from tests.browser.site import a_site

#: Only scripts from files are allowed.
POLICY = "script-src 'self'; style-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'"
PAGES = {
    "/": b"<!doctype html><html lang=en><title>Fine</title><main><h1>Fine</h1></main>",
    "/inline": b"<!doctype html><html lang=en><title>Inline</title><script>window.ran = true</script>",
    "/script": b"<!doctype html><html lang=en><title>Script</title><script src=/broken.js></script>",
    "/broken.js": b"throw new Error('a bug of the page')",
    "/image": b"<!doctype html><html lang=en><title>Image</title><img alt='' src=/missing.png>",
    "/gone": b"<!doctype html><html lang=en><title>Gone</title><img alt='' src=http://127.0.0.1:9/x.png>",
    "/grey": b"<!doctype html><html lang=en><title>Grey</title><style>p {color: #aaa}</style>"
    b"<main><h1>Grey</h1><p>hardly to be read</p></main>",
    "/wide": b"<!doctype html><html lang=en><title>Wide</title><style>main {width: 900px}</style>"
    b"<main><h1>Wide</h1></main>",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with a_site(PAGES, POLICY) as url:
        yield url


def visit(chromium: Chromium, url: str, directory: Path, path: str, expects: Sequence[str]) -> None:
    with chromium.window(url, directory, expects=expects) as window:
        window.open(path).wait_for_load_state("networkidle")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/inline", "Content Security Policy"),
        ("/script", "a bug of the page"),
        ("/image", "GET /missing.png: 404"),
        ("/gone", "GET /x.png: net::ERR_"),
    ],
)
def test_what_goes_wrong_in_a_page_fails_a_test_unless_it_expects_it(chromium, url, tmp_path, path, what):
    visit(chromium, url, tmp_path, "/", ["favicon"])
    with pytest.raises(Trouble, match=what):
        visit(chromium, url, tmp_path, path, ["favicon"])
    visit(chromium, url, tmp_path, path, [""])


def test_a_page_without_faults_is_left_in_peace_and_can_be_pictured(chromium, url, tmp_path):
    with chromium.window(url, tmp_path, "anna", width=360, expects=["favicon"]) as window:
        tab = window.open("/")
        assert accessibility(tab) == []
        assert overflow(tab) == []
        assert window.picture(tab, "fine").read_bytes().startswith(b"\x89PNG")
        assert "GET /" in window.requests


def test_what_is_hard_to_read_or_too_wide_is_found(chromium, url, tmp_path):
    with chromium.window(url, tmp_path, width=360, expects=["favicon"]) as window:
        (found,) = accessibility(window.open("/grey"))
        assert found.startswith("color-contrast (serious)")
        assert any("main" in each for each in overflow(window.open("/wide")))
