"""From Asterisk's question to the card that is painted, in Chromium, beside the phone's INVITE, on a real Asterisk.

Once as calls come, and once with `card_lead_ms`, for which the INVITE waits. A script in the page notes when the card
of a call is first there, and when the frame with it has been made; the clock of all is the machine's.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen
from playwright.sync_api import Page

from lab.browser import Chromium
from lab.company import DID, AnAgent
from lab.laboratory import Answers, eventually
from tests.browser.desk import Desk
from tests.browser.house import PASSWORD, House, a_house

LEAD_MS: Final = 300
_LATE_MS: Final = 150
_GOAL: Final = 0.99
#: Calls a second: each is over before the next one.
_RATE: Final = 1.0
_ANNA: Final = AnAgent("anna", "Anna Lindner", Answers(after_ms=200))
#: When a card is first on the page, and, a frame and a turn later, painted: milliseconds since the epoch.
_WATCH: Final = """
window.cards = {};
new MutationObserver(() => {
    const now = performance.timeOrigin + performance.now();
    for (const card of document.querySelectorAll('[data-test="card"]')) {
        const call = card.dataset.call;
        if (!call || window.cards[call]) continue;
        window.cards[call] = [now, null];
        requestAnimationFrame(() => {
            const turn = new MessageChannel();
            turn.port1.onmessage = () => {
                window.cards[call][1] = performance.timeOrigin + performance.now();
            };
            turn.port2.postMessage(null);
        });
    }
}).observe(document, { childList: true, subtree: true, attributes: true });
"""


@frozen
class Card:
    """One call's times, in seconds since the epoch."""

    asked: float
    there: float
    painted: float
    shown: float | None
    invited: float

    @property
    def delay_ms(self) -> float:
        return (self.painted - self.asked) * 1000

    @property
    def after_invite_ms(self) -> float:
        """Below zero: before it."""
        return (self.painted - self.invited) * 1000


def measure(directory: Path, calls: int, lead_ms: int) -> tuple[int, list[Card]]:
    """So many calls, one after the other, to one agent at a browser: how many were offered, and the painted cards."""
    numbers = [f"03023125{number:03d}" for number in range(calls)]
    knows: list[Mapping[str, str]] = [
        {"id": str(number), "type": "contact", "name": f"Customer {number}", "numbers": raw}
        for number, raw in enumerate(numbers)
    ]
    service = {"card_lead_ms": lead_ms, "wrap_up": 0, "disposition": "optional"}
    with (
        Chromium() as chromium,
        a_house(chromium, directory, agents=[_ANNA], knows=knows, service=service) as house,
        # Where a card is painted after the end of its call, nobody wants to know; the figures show it.
        house.window("anna", directory, expects=["/card"]) as window,
    ):
        window.context.add_init_script(_WATCH)
        # Not by `house.desk`: the script is to be there before the page.
        desk = Desk.opened(window)
        desk.log_in("anna", PASSWORD)
        company = house.company
        placed = company.lab.calls(
            company.pbx, DID, count=calls, rate=_RATE, from_number=numbers, talk_ms=100
        )
        # Playwright's own loop turns meanwhile, so that its queue does not grow.
        eventually(lambda: _ended(house, desk.tab) >= calls, calls / _RATE + 60, what="the end of all calls")
        placed.wait(60)
        return _cards(house, desk.tab)


def _ended(house: House, tab: Page) -> int:
    tab.wait_for_timeout(2000)
    return sum(call["ended"] is not None for call in house.company.daemon.calls(limit="200"))


def _cards(house: House, tab: Page) -> tuple[int, list[Card]]:
    company = house.company
    seen: dict[str, list[float]] = tab.evaluate("window.cards")
    invited = {invite.from_number: invite.time for invite in company.phones["anna"].invites}
    offered, cards = 0, []
    for call in company.daemon.calls(limit="200"):
        events = {event["type"]: event for event in company.daemon.call(call["id"])["events"]}
        # On a machine too slow for the calls the agent may still be busy with the one before.
        if "card.offered" not in events or call["from_raw"] not in invited:
            continue
        offered += 1
        times = seen.get(call["id"])
        if times is None or times[1] is None:
            continue
        shown = events.get("card.shown")
        cards.append(
            Card(
                asked=_seconds(call["started"]),
                there=times[0] / 1000,
                painted=times[1] / 1000,
                shown=None if shown is None else _seconds(shown["at"]),
                invited=invited[call["from_raw"]],
            )
        )
    return offered, cards


def report(lead_ms: int, offered: int, cards: Sequence[Card]) -> list[str]:
    """Lines to print, with whether the goal is met."""
    delays = sorted(card.delay_ms for card in cards)
    after = sorted(card.after_invite_ms for card in cards)
    latest = 0.0 if lead_ms else float(_LATE_MS)
    share = sum(value <= latest for value in after) / offered
    what = "before it" if lead_ms else f"no later than {_LATE_MS} ms after it"
    confirmed = [(card.shown - card.painted) * 1000 for card in cards if card.shown is not None]
    return [
        f"card_lead_ms: {lead_ms}; {len(cards)} of {offered} cards painted",
        f"    from Asterisk's question until it is painted: {_quantiles(delays)}",
        f"    of it until it is in the page: {_quantiles(sorted((c.there - c.asked) * 1000 for c in cards))}",
        f"    painted after the phone's INVITE: {_quantiles(after)}",
        f"    {what}: {share:.1%}: goal {'met' if share >= _GOAL else 'MISSED'}",
        f"    card.shown comes {median(confirmed):.1f} ms after the paint (median of {len(confirmed)})",
    ]


def _quantiles(ordered: Sequence[float]) -> str:
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {ordered[-1]:.1f} ms"


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
