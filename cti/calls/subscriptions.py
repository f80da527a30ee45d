"""Which events the configured notifications get: types, and of these those of the calls that they are about.

Pure. It is asked before an event waits in the outbox; how an event is handed over is left to `webhook` and
`url_events`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from cti.settings import Settings, UrlEvents, Wanted
from cti.store.base import Destinations, Subscription

#: What stands in front of the name of a destination whose events are addresses that are opened.
URL_EVENTS: Final = "notify:"

#: The events in which the four moments of a softphone are found.
_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "ringing": ("call.ringing", "call.offered"),
    "connected": ("call.connected",),
    "ended": ("call.ended",),
    "missed": ("call.missed",),
}


def subscriptions(settings: Settings) -> Destinations:
    """Of each configured webhook and set of URLs, by the name that its destination has in the outbox."""
    return {
        **{
            name: Subscription(frozenset(hook.events), _of(hook.wanted))
            for name, hook in settings.webhooks.items()
        },
        **{
            URL_EVENTS + name: Subscription(
                frozenset(type for moment in urls.addresses for type in _TYPES[moment]), _moments_of(urls)
            )
            for name, urls in settings.notify.items()
        },
    }


def moment_of(event: Mapping[str, Any], urls: UrlEvents) -> str | None:
    """Which of the moments that there are addresses for an event is; None for one that is none."""
    call = event["call"]
    outbound = call.get("direction") == "outbound"
    match event["type"]:
        case "call.ringing" if not outbound:
            moment = "ringing"
        case "call.offered" if outbound:
            # Whoever is called rings at no phone of ours.
            moment = "ringing"
        case "call.connected":
            moment = "connected"
        case "call.missed":
            moment = "missed"
        case "call.ended":
            missed = call.get("outcome") == "missed"
            # Of others nothing was told: they have rung at no agent's phone.
            over = (
                outbound or call.get("outcome") == "answered" or (missed and "missed" not in urls.addresses)
            )
            moment = "ended" if over else ""
        case _:
            moment = ""
    return moment if moment in urls.addresses else None


def _of(wanted: Wanted) -> Callable[[bytes], bool] | None:
    if wanted == Wanted():
        return None
    return lambda body: _is_of(wanted, _read(body))


def _moments_of(urls: UrlEvents) -> Callable[[bytes], bool]:
    def concerns(body: bytes) -> bool:
        event = _read(body)
        return moment_of(event, urls) is not None and _is_of(urls.wanted, event)

    return concerns


def _is_of(wanted: Wanted, event: Mapping[str, Any]) -> bool:
    call = event.get("call")
    if call is None:
        # Filters are of calls: what is none passes only where there are none.
        return wanted == Wanted()
    adapter = (event.get("party") or {}).get("adapter")
    return all(
        these is None or value in these
        for these, value in (
            (wanted.services, call.get("service")),
            (wanted.directions, call.get("direction")),
            (wanted.adapters, adapter),
        )
    )


def _read(body: bytes) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(b"{" + body)
    return read
