"""The pages that people open in a browser: the files below `cti/web/page`, and the rows that serve them.

The files are sent as they stand in the repository, there is no build step. What the pages show they fetch from the
API like everybody else; nothing here knows a call or an agent.
"""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Handler, Parameter, Route
from cti.web.services import Services
from cti.web.shapes import STRING

PAGE: Final = Path(__file__).with_name("page")
HTML: Final = "text/html; charset=utf-8"
MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".html": HTML,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@frozen
class File:
    """A file as it is sent: as it is, and packed. `tag` changes with the content, and is not quoted yet."""

    media_type: str
    body: bytes
    packed: bytes
    tag: str


def read_files(directory: Path) -> Mapping[str, File]:
    """Every file below `directory` by its name, whatever its folder. Raises `ValueError` for two of one name."""
    files: dict[str, File] = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        if path.name in files:
            raise ValueError(f"{path}: there is another file of this name below {directory}")
        body = path.read_bytes()
        files[path.name] = File(
            media_type=MEDIA_TYPES[path.suffix],
            body=body,
            packed=gzip.compress(body, mtime=0),
            tag=hashlib.sha256(body).hexdigest()[:24],
        )
    return files


FILES: Final = read_files(PAGE)


def page(name: str) -> Handler:
    """A handler that answers with this file, whatever the query says: the page itself reads that."""

    async def handle(_services: Services, asked: Asked) -> Answer:
        return _sent(asked, FILES[name])

    return handle


async def static(_services: Services, asked: Asked) -> Answer:
    file = FILES.get(asked.path["name"])
    if file is None:
        raise Problem(404, "the pages have no file of this name")
    return _sent(asked, file)


def _sent(asked: Asked, file: File) -> Answer:
    """The file, by whose tag a browser asks whether it has it already.

    Browsers are made to ask each time: after an update of the server a page must not run with half of the old one.
    """
    request = asked.http
    packs = "gzip" in (request.getHeader("Accept-Encoding") or "")
    tag = f'"{file.tag}-gz"' if packs else f'"{file.tag}"'
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if packs:
        return Answer(file.packed, 200, file.media_type, {**headers, "Content-Encoding": "gzip"}, tag)
    return Answer(file.body, 200, file.media_type, headers, tag)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/",
        page("desk.html"),
        "The agent desktop",
        query=(
            Parameter("call", {"type": "string", "maxLength": 100}, "a call to open, as phones link to it"),
        ),
        answers=(HTML, STRING),
        etag=True,
    ),
    Route(
        "GET",
        "/dial",
        page("desk.html"),
        "The agent desktop, asking whether to dial a number",
        "For links and for browsers that hand `tel:` links over. Nothing is dialled until the agent says so.",
        query=(Parameter("number", {"type": "string", "maxLength": 300}, "a number or a `tel:` link"),),
        answers=(HTML, STRING),
        etag=True,
    ),
    Route(
        "GET",
        "/docs",
        page("docs.html"),
        "This description, as people read it",
        answers=(HTML, STRING),
        etag=True,
    ),
    Route(
        "GET",
        "/static/{name}",
        static,
        "A part of a page: script, style, language or picture",
        answers=("*/*", STRING),
        etag=True,
        problems={404: "no such file"},
    ),
)
