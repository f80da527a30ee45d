"""`cti dial`: has a running server start a call, for programs and desktops that open `tel:` links with a command.

Which numbers may be dialled, and whose phone rings first, is the server's business; this only asks it.
"""

import os
import re
import urllib.request
from argparse import Namespace
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import unquote

import orjson

from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration
from cti.commands.output import printable, say, write_json
from cti.secret import Secret

#: Where the token is looked for if no file is named.
TOKEN_VARIABLE: Final = "CORDBOARD_TOKEN"
_SECONDS: Final = 30.0
_SCHEME: Final = re.compile(r"(?P<scheme>tel|callto|sips?):(?://)?", re.IGNORECASE)
_TARGET_LIMIT: Final = 100
_ANSWER_LIMIT: Final = 1024 * 1024


def dial(arguments: Namespace) -> int:
    """Ask for the call; 0 once the caller's phone rings."""
    target = target_of(" ".join(arguments.number))
    url = _url(arguments)
    body = {"to": target} | ({"agent": arguments.agent} if arguments.agent else {})
    call = _ask(f"{url}/api/v1/calls", body, _token(arguments))
    if arguments.format == "json":
        write_json(call)
    else:
        say(f"the phone rings; pick it up, and {printable(str(call.get('to') or target))} is called")
    return 0


def target_of(text: str) -> str:
    """What to dial, out of a `tel:`, `callto:` or `sip:` link, or of what somebody typed. Raises `WrongUse`.

    Of a link only the number counts, or the name before the `@`: what may stand behind it (RFC 3966, RFC 3261) are
    another system's matters.
    """
    found = _SCHEME.match(text.strip())
    number = text.strip()
    if found is not None:
        number = unquote(re.split("[;?@]", number[found.end() :], maxsplit=1)[0]).strip()
    if not number or len(number) > _TARGET_LIMIT or not number.isprintable():
        raise WrongUse(
            f"{printable(text[:60])!r} is nothing to dial; write a number such as +4915228817386, 0152 28817386 or"
            " 200, or a link such as tel:+4915228817386"
        )
    return number


def _url(arguments: Namespace) -> str:
    if arguments.url is not None:
        url: str = arguments.url
        if re.fullmatch(r"https?://[^\s/?#]+/?", url) is None:
            raise WrongUse(f"--url {printable(url)}: write the server's address, such as https://cti.example")
        return url.rstrip("/")
    http = configuration(arguments).http
    return http.url.rstrip("/") if http.url else f"http://{http.listen.host}:{http.listen.port}"


def _token(arguments: Namespace) -> Secret:
    text = os.environ.get(TOKEN_VARIABLE, "")
    if arguments.token_file is not None:
        text = Path(arguments.token_file).expanduser().read_text("utf-8")
    if not text.strip():
        raise WrongUse(
            f"no token; put one of `cti token add NAME --role agent --agent ID` into {TOKEN_VARIABLE}, or name its"
            " file with --token-file"
        )
    return Secret(text.strip())


def _ask(url: str, body: Any, token: Secret) -> Any:
    request = urllib.request.Request(
        url,
        data=orjson.dumps(body),
        headers={"Authorization": f"Bearer {token.reveal()}", "Content-Type": "application/json"},
        method="POST",
    )
    # A redirect would take the token to wherever it points.
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return orjson.loads(answer.read(_ANSWER_LIMIT))
    except HTTPError as error:
        raise CommandFailed(_detail(error)) from error
    except (URLError, TimeoutError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise CommandFailed(f"{url}: no answer: {reason}") from error
    except orjson.JSONDecodeError as error:
        raise CommandFailed(f"{url}: this is no server of ours: its answer is not JSON") from error


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _detail(error: HTTPError) -> str:
    try:
        problem = orjson.loads(error.read(_ANSWER_LIMIT))
        return printable(f"{problem['title']}: {problem['detail']}")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{error.url}: {error.code} {printable(error.reason)}"
