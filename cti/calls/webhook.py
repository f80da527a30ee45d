"""Hands one event to a web address, signed as Standard Webhooks 1.0 says (standardwebhooks.com).

When to try again, and in which order, is the outbox's business; how a web address is asked, `web_client`'s.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from twisted.web.http_headers import Headers

from cti.calls.web_client import WebClient
from cti.secret import signing_key
from cti.store.records import Delivery
from cti.store.rows import iso_utc, json_bytes


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """A signature as `webhook-signature` has it (Standard Webhooks, "Signature scheme")."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class WebhookSender:
    """A `Sender` to one address.

    With several secrets each event has a signature of each: while a receiver takes over a new one, it knows the event
    by whichever it has.
    """

    def __init__(
        self, url: str, secrets: Sequence[str], client: WebClient, *, clock: Callable[[], float]
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a webhook's url is http:// or https:// with a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a webhook's url has no user name or password in it")
        self._url = url
        self._keys = [signing_key(secret) for secret in secrets]
        self._client = client
        self._clock = clock

    async def send(self, delivery: Delivery) -> int:
        return await self._post(delivery.key, delivery.data)

    async def test(self, key: str) -> int:
        """Send an event that is none, `webhook.test`."""
        return await self._post(key, json_bytes({"type": "webhook.test", "at": iso_utc(self._clock())}))

    async def _post(self, id: str, body: bytes) -> int:
        timestamp = int(self._clock())
        signatures = [signature(key, id, timestamp, body) for key in self._keys]
        headers = Headers(
            {
                "content-type": ["application/json"],
                "webhook-id": [id],
                "webhook-timestamp": [str(timestamp)],
                "webhook-signature": [" ".join(signatures)],
            }
        )
        return await self._client.ask("POST", self._url, headers, body)
