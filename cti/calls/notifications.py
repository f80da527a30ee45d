"""The configured webhooks and URLs: each as the outbox's way to its destination, and to be tried by hand.

What an attempt is, is left to `webhook` and `url_events`; which events one gets, to `subscriptions`.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError

from cti.calls.outbox import DeliveryFailed, Sender
from cti.calls.subscriptions import URL_EVENTS
from cti.calls.url_events import People, UrlEventsSender
from cti.calls.web_client import WebClient, web_agent
from cti.calls.webhook import WebhookSender
from cti.reach import Reach
from cti.settings import Settings
from cti.store.base import CallDetail

#: What trying by hand may take: a little more than an attempt.
TEST_SECONDS = 15.0


class _Tried(Sender, Protocol):
    """A destination that can be tried without an event."""

    async def test(self, key: str) -> int | None:
        """Send it something that says it is a test. Raises `DeliveryFailed`."""


@frozen
class Trial:
    """What came of trying a destination: the status of its answer, and what went wrong, if anything did."""

    seconds: float
    status: int | None
    error: str | None


class NoSuchDestination(Exception):
    """Nothing of this name can be tried; the text names what can."""


class Notifications:
    """What is told to others by the web, as one configuration has it."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        clock: Callable[[], float],
        people: People,
        call: "Callable[[str], Deferred[CallDetail | None]]",
    ) -> None:
        def client(reach: Reach) -> WebClient:
            return WebClient(web_agent(reactor, reach), reactor, clock=clock)

        self._reactor = reactor
        self._clock = clock
        self._senders: dict[str, _Tried] = {
            name: WebhookSender(
                hook.url, [secret.reveal() for secret in hook.secrets], client(hook.reach), clock=clock
            )
            for name, hook in settings.webhooks.items()
        }
        for name, urls in settings.notify.items():
            self._senders[URL_EVENTS + name] = UrlEventsSender(
                urls, client(urls.reach), people=people, plan=settings.plan, call=call
            )

    @property
    def senders(self) -> Mapping[str, Sender]:
        return self._senders

    async def test(self, name: str) -> Trial:
        """Try a destination now. Raises `NoSuchDestination`."""
        sender = self._senders.get(name)
        if sender is None:
            known = ", ".join(self._senders) or "none is configured"
            raise NoSuchDestination(f"there is no webhook of this name; known: {known}")
        began = self._clock()
        status, error = None, None
        try:
            trying = Deferred.fromCoroutine(sender.test(f"test.{secrets.token_hex(8)}"))
            status = await trying.addTimeout(TEST_SECONDS, self._reactor)
        except DeliveryFailed as failure:
            status, error = failure.status, str(failure)
        except TimeoutError:
            error = f"no end of the attempt within {TEST_SECONDS:g} s"
        return Trial(max(0.0, self._clock() - began), status, error)
