"""Errors as every client gets them: problem details (RFC 9457). Which it is, is up to those who raise."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """An answer that is an error.

    `detail` says what would be right. `kind` names the problem within its status (`not-a-number`) and becomes
    its `type`; without one the status says it all. `errors` are several faults of one request, `more` what else
    the client gets of it.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[str] = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = HTTPStatus(status)
        self.detail = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.errors = tuple(errors)
        self.more = dict(more or {})

    def as_json(self) -> bytes:
        """The body, of type `MEDIA_TYPE`."""
        body: dict[str, Any] = {
            "type": "about:blank" if self.kind is None else f"urn:problem-type:cordboard:{self.kind}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        return orjson.dumps({**body, **self.more})
