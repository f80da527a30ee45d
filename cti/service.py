"""The wiring: every room of the server plugged together by a configuration, and nothing else done here.

`CtiService` is the whole daemon as one Twisted service: `cti serve` runs it, and so does `twist cti`.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from attrs import define
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from adapters.base import AdapterContext, AdapterError, IAdapter, load_adapter_kinds
from adapters.directory import DirectoryAdapter
from cti.agents.presence import Presence
from cti.agents.roster import AgentView, Roster
from cti.agents.states import Wish
from cti.asterisk.ami import AmiClient
from cti.asterisk.ami_parser import Event
from cti.asterisk.ami_tls import AmiTls
from cti.asterisk.bell import Bell
from cti.asterisk.channels import Channels
from cti.asterisk.fastagi import AgiSession, FastAgiFactory, listen
from cti.asterisk.held_events import HeldEvents
from cti.asterisk.pbx import Pbx, PbxError
from cti.asterisk.versions import SUPPORTED, differences
from cti.calls.acquaintance import note_acquaintance
from cti.calls.callbacks import Callbacks
from cti.calls.calling_times import CallingTimes
from cti.calls.control import Control
from cti.calls.deliveries import Deliveries
from cti.calls.desk import Desk
from cti.calls.due_calls import DueCalls
from cti.calls.explain import explain
from cti.calls.finder import Finder
from cti.calls.gaps import Gaps
from cti.calls.history import CallHistory
from cti.calls.inbound import Inbound
from cti.calls.journal import Journal, destination, journaling
from cti.calls.journal_entry import Teller
from cti.calls.key_entry import KeyEntry
from cti.calls.late_cards import LateCards
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.newcomers import Newcomers
from cti.calls.notifications import Notifications
from cti.calls.outbound import Outbound
from cti.calls.outbox import Outbox, Sender
from cti.calls.own import OwnCode
from cti.calls.painting import Painting
from cti.calls.parties import Parties
from cti.calls.periods import SIGN_OF_LIFE, Periods
from cti.calls.present import pause_json
from cti.calls.recordings import Recordings
from cti.calls.remembered import Remembered
from cti.calls.services import AMI_ERRORS, Services
from cti.calls.softphone import Softphones
from cti.calls.subscriptions import subscriptions
from cti.calls.tracker import LOOK, SWEEP, WANTED, EndedRecord, Tracker
from cti.calls.turned_away import TurnedAway
from cti.calls.unasked import Unasked
from cti.calls.unseen import Unseen
from cti.calls.waiting_room import LOOK as ROOM, WaitingRoom
from cti.calls.writing_up import WritingUp
from cti.calls.written import Written
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier, Owners
from cti.index.feed import Feeds, FeedSettings
from cti.index.phone_index import PhoneIndex
from cti.logs import get_logger
from cti.metrics import Metrics
from cti.phonebook.doors import Doors
from cti.privacy.erasing import Erasing
from cti.privacy.erasures import Erasures
from cti.privacy.files import files_of
from cti.privacy.retention import Daily, Purge
from cti.privacy.traces import Subject, Traces
from cti.reports.desk import ReportDesk
from cti.reports.report import Levels
from cti.settings import NO_ASTERISK, Address, JournalSettings, Retention, Settings
from cti.store.base import Destinations, IStore, StoreError, Subscription, Unit
from cti.store.opening import open_claims, open_for_command, open_store
from cti.store.records import AgentRecord, CallRecord, SegmentRecord
from cti.store.spool import Spooled
from cti.web.audit import Audit
from cti.web.events import EventHub
from cti.web.login import Login
from cti.web.masking import Masking
from cti.web.passwords import Passwords
from cti.web.server import Site, make_site
from cti.web.services import Component, Desktop, DryRun, Options, Privacy, Services as WebServices
from cti.web.sessions import Lifetime, Sessions
from cti.web.tls import ServerTls
from cti.web.tokens import Identity, Tokens
from cti.yaml_file import NAME_IS, is_name
from routing.rules import Service as RoutedService
from routing.words import quoted

log = get_logger("cti.service")
T = TypeVar("T")

#: Connections that may wait to be accepted. With Twisted's 50, of 2,000 desktops that come back at one moment the
#: last has its stream after two minutes: each that finds no place tries again by itself after 1, 3, 7 … s.
BACKLOG: Final = 4096
#: Seconds that sessions with Asterisk may take to finish when the server stops.
DRAIN: Final = 3.0
#: Seconds between two looks at the files of the certificate.
CERTIFICATES: Final = 5.0
#: Seconds between two beats of the reactor; without a turn for so many, the guards of the dialplan have fired;
#: and so long after that, questions may still be read that were asked before.
BEAT: Final = 0.5
STOOD_STILL: Final = 2.5
THAWING: Final = 1.0
#: Seconds between two times that answers kept for their Idempotency-Key are looked through.
FORGET: Final = 600.0
#: Seconds between two looks whether it is time to remove what is too old.
DAILY: Final = 60.0
#: Seconds for which AMI's events may wait for each other: longer than the bursts in which a call makes them, and
#: nobody waits for what they tell.
GATHER_EVENTS: Final = 0.01


def make_adapters(settings: Settings, reactor: Any) -> dict[str, IAdapter]:
    """The adapters of the configuration, in its order, not started yet."""
    kinds = load_adapter_kinds()
    context = AdapterContext(settings.base, settings.plan, reactor, settings.own_numbers)
    return {
        name: kinds[adapter.kind](name, adapter.options, context)
        for name, adapter in settings.adapters.items()
    }


def make_identifier(
    settings: Settings,
    adapters: Mapping[str, IAdapter],
    clock: Any,
    *,
    owners: Owners,
    remembered: Remembered,
    ignored: Callable[[str], bool],
    **more: Any,
) -> Identifier:
    """Who asks these adapters, as the configuration has it; `more` as `Identifier` takes it."""
    return Identifier(
        adapters,
        clock,
        owners=owners,
        plan=settings.plan,
        own=settings.own_numbers,
        options=settings.identify.options,
        asking={name: adapter.asking for name, adapter in settings.adapters.items()},
        ignored=ignored,
        spoken=remembered.spoken,
        chosen=remembered.chosen,
        **more,
    )


def seeds(settings: Settings, now: float) -> list[AgentRecord]:
    """The agents of the configuration, for a fresh store."""
    return [
        AgentRecord(
            id=agent.id,
            name=agent.name,
            phones=agent.phones,
            groups=sorted(agent.groups),
            crm=dict(agent.crm),
            skills=dict(agent.skills),
            concurrency=agent.concurrency,
            wish=agent.state,
            wish_since=now,
            idle_since=now,
        )
        for agent in settings.agents.values()
    ]


@define
class _Pbx:
    """One Asterisk of the configuration.

    `lost`: since when its AMI has been away (epoch seconds); `in_step`: nothing that it said since is missing.
    `held`: what it says while it is asked how things are.
    """

    name: str
    client: AmiClient
    channels: Channels
    lost: float
    held: HeldEvents
    sweeping: bool = False
    in_step: bool = False


class CtiService(Service):
    """The server, from the first listener to the last commit."""

    name = "cti"

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self._adapters = make_adapters(settings, reactor)
        self.metrics = Metrics(
            services=settings.services,
            adapters=settings.adapters,
            pbxes=settings.asterisks,
            destinations=self._destinations(),
            ami_events=WANTED,
        )
        self._reactor = reactor
        self._now: Callable[[], float] = reactor.seconds
        opened = open_store(
            settings.store.place,
            reactor=reactor,
            destinations=self._destinations(),
            clock=self._now,
            observe_commit=self.metrics.committed,
        )
        self._spool = (
            None
            if settings.store.spool is None
            else Spooled(
                opened,
                reactor,
                settings.store.spool,
                lambda: open_for_command(
                    settings.store.place, destinations=self._destinations(), clock=self._now
                ),
                self.metrics.spooled,
            )
        )
        self.store: IStore = opened if self._spool is None else self._spool.as_store()
        self.calls = CallLog(self.store, reactor, self._call_ended)
        self.roster = Roster(self._now, self.calls.agent_changed)
        self._claims = open_claims(settings.store.place, reactor)
        if self._claims is not None:
            self.roster.on_held(self._claims.mirror)
        self.turned_away = TurnedAway(self.calls, settings.identify, self._now)
        self.unseen = Unseen(self.calls, self.roster, self._services, self._identifier, self._now)
        self._channels = {name: Channels(reactor) for name in settings.asterisks}
        self.unasked = Unasked(
            self.calls, self.roster, self._services, self._identifier, self._presentation, self._known_late
        )
        self.writing_up = WritingUp(
            calls=self.calls, roster=self.roster, services=self._services, now=self._now
        )
        self.tracker = Tracker(
            self.calls,
            self.roster,
            self._now,
            self.unseen.record,
            self._channels,
            self.unasked.begin,
            self.writing_up,
        )
        self.softphones = Softphones(
            calls=self.calls,
            tracker=self.tracker,
            services=self._services,
            identifier=self._identifier,
            late=self._known_late,
            clock=reactor,
        )
        self.gaps = Gaps(
            self.calls,
            {name: pbx.cdr for name, pbx in settings.asterisks.items() if pbx.cdr is not None},
            make_up=self.unasked.made_up,
            in_thread=self._in_thread,
            measure=self.metrics.ami_gap,
        )
        self.tokens = Tokens(self.store, reactor)
        kept = settings.http.session
        self.sessions = Sessions(
            self.store, reactor, Lifetime(kept.idle_hours * 3600.0, kept.days * 86_400.0)
        )
        self.finder = Finder(
            adapters=lambda: self._adapters,
            identify=self.identify,
            owners=self.roster.owner_of,
            settle=lambda number, parties: self._identifier().settle(number, parties),
            sensitive=lambda: self.settings.sensitive_keys,
            is_open=lambda adapter: self._identifier().is_open(adapter),
            clock=reactor,
            observe=self._identified,
        )
        self.late_cards = LateCards(
            calls=self.calls, finder=self.finder, services=self._services, now=self._now
        )
        self.key_entry = KeyEntry(
            finder=self.finder,
            calls=self.calls,
            services=self._services,
            late_cards=self.late_cards,
            now=self._now,
            pbxes=settings.asterisks.keys(),
        )
        self._masking = Masking(settings.http.masking)
        self.audit = Audit(self.store, reactor)
        self._password_thread = ThreadPool(0, 1, "cti-passwords")
        self.login = Login(
            self.store,
            self.sessions,
            Passwords(self._in_password_thread),
            self.audit,
            reactor,
            self.metrics.logged_in,
        )
        self.hub = EventHub(self.store, reactor, valid=self._still_valid, masking=self._masking)
        self.painting = Painting(
            calls=self.calls,
            clock=reactor,
            watched=self.hub.is_watched,
            measure=self.metrics,
            written_up=self.writing_up.call,
        )
        self.room = WaitingRoom(
            calls=self.calls,
            roster=self.roster,
            tracker=self.tracker,
            services=self._services,
            facts=lambda *about: self.inbound.facts_of(*about),
            bell=Bell(lambda pbx: self._pbxes[pbx].client),
            clock=reactor,
            call_back=lambda id, agent: self.callbacks.call_from_line(id, agent),
            keeps_on=lambda id: self.callbacks.is_in_line(id),
            claims=self._claims,
        )
        self.calls.on_news(self.room.news)
        self.history = CallHistory(self.store, reactor, lambda: self.settings.reports.time_zone)
        self.own_code = OwnCode(reactor, self.metrics.own_code_asked)
        self.inbound = Inbound(
            calls=self.calls,
            tracker=self.tracker,
            roster=self.roster,
            services=self._services,
            identifier=self._identifier,
            clock=reactor,
            answer_within=settings.answer_ms / 1000,
            offer_grace=settings.reservation.grace,
            card_url=_card_url(settings),
            measure=self.metrics,
            pbxes=settings.asterisks.keys(),
            learn=self._learn,
            stood_still=self._stood_still,
            painted=self.painting.wait,
            said=self.key_entry.identified,
            freshen=self.late_cards.freshen,
            late=self._known_late,
            refusal=lambda caller: self.turned_away.lists.refusal(caller),
            room=self.room,
            call_back=lambda *about: self.callbacks.wanted(*about),
            history=self.history,
            own=self.own_code,
            not_answered=self._not_answered,
            claims=self._claims,
        )
        self.outbound = Outbound(
            calls=self.calls,
            tracker=self.tracker,
            roster=self.roster,
            services=self._services,
            identifier=self._identifier,
            clock=reactor,
            answer_within=settings.answer_ms / 1000,
            measure=self.metrics,
            pbxes=settings.asterisks.keys(),
            freshen=self.late_cards.freshen,
            late=self._known_late,
        )
        self.index = PhoneIndex(settings.index.directory, settings.plan, settings.own_numbers, self._now)
        # One for all of them: who writes a part is never two, and nothing else waits for it.
        self._index_thread = ThreadPool(0, 1, "cti-index")
        self._feeds = Feeds(
            self.index,
            reactor,
            self._in_index_thread,
            FeedSettings(
                settings.index.changes_seconds, settings.index.list_seconds, settings.index.full_seconds
            ),
        )
        self._use(settings)
        self._pbxes = {name: self._pbx(name) for name in settings.asterisks}
        self.control = Control(
            calls=self.calls,
            tracker=self.tracker,
            roster=self.roster,
            services=self._services,
            identifier=self._identifier,
            pbxes={name: self._call_control_of(pbx) for name, pbx in self._pbxes.items()},
            mirrors=self._channels,
            now=self._now,
            settings=settings.call_control,
            card_url=_card_url(settings),
            observe=self.metrics.operated,
            writing_up=self.writing_up,
            late=self._known_late,
        )
        self.written = Written(
            calls=self.calls,
            writing_up=self.writing_up,
            services=self._services,
            now=self._now,
            confirm=self.finder.confirmed,
            chosen=self.late_cards.chosen,
        )
        self.callbacks = Callbacks(
            calls=self.calls,
            store=self.store,
            roster=self.roster,
            services=self._services,
            control=self.control,
            times=lambda: self._calling_times,
            now=self._now,
        )
        self.calls.on_news(self.callbacks.news)
        self.due_calls = DueCalls(
            callbacks=self.callbacks,
            calls=self.calls,
            roster=self.roster,
            times=lambda: self._calling_times,
            now=self._now,
        )
        self.desk = Desk(
            calls=self.calls,
            roster=self.roster,
            services=self._services,
            control=self.control,
            writing_up=self.writing_up,
            store=self.store,
            settings=lambda: self.settings.desk,
            newest=self.hub.newest,
            missed=self.callbacks.count,
            now=self._now,
            keys=lambda: self.finder.kinds.values(),
        )
        self.parties = Parties(
            adapters=lambda: self._adapters,
            calls=self.calls,
            writing_up=self.writing_up,
            written=self.written,
            services=self._services,
            forget=lambda adapter, number: self._current_identifier.forget(adapter, number),
        )
        self.newcomers = Newcomers(
            calls=self.calls,
            services=self._services,
            identifier=self._identifier,
            parties=self.parties,
            late_cards=self.late_cards,
            writing_up=self.writing_up,
            roster=self.roster,
            clock=reactor,
        )
        self.calls.on_news(self.newcomers.news)
        self.calls.on_news(note_acquaintance)
        self.periods = Periods(calls=self.calls, store=self.store, roster=self.roster, now=self._now)
        self.calls.on_agents(self.periods.news, self.periods.lost)
        self.reports = ReportDesk(self.store.counted, lambda: Levels.of(self.settings))
        self._presence = Presence(self.hub.is_watched)
        self.recordings = Recordings(
            {
                name: each.recordings
                for name, each in settings.asterisks.items()
                if each.recordings is not None
            },
            reactor,
            self._in_thread,
        )
        self.erasures = Erasures(self.store, self._erasing, self._forget, self._is_live, reactor)
        self._daily = Daily(self.store, lambda: self.settings.retention, self.purge, reactor)
        self.notifications = self._notifications()
        self.outbox = Outbox(
            self.store,
            self._senders(),
            reactor,
            clock=self._now,
            jitter=random.random,
            give_up=settings.outbox.give_up_hours * 3600.0,
            observe=self.metrics.attempted,
        )
        self._agi = FastAgiFactory(
            self._answered,
            reactor,
            overflow=self._overflow,
            shed=self.metrics.shed,
            allow=settings.fastagi.allow,
            max_sessions=settings.fastagi.max_in_flight,
        )
        self._wishes_on_their_way: Counter[str] = Counter()
        self._beaten = self._now()
        self._thawed = 0.0
        self._ports: list[IListeningPort] = []
        self._site: Site | None = None
        self._tls: ServerTls | None = None
        self._phonebook = Doors(settings.phonebook, self.index, settings.plan, reactor)
        self._phonebook_tls: ServerTls | None = None
        self._loops: list[LoopingCall] = []
        self._stopping = False

    # Start and stop.

    def startService(self) -> None:
        """Come up: the store first, then the listeners, then what we do of our own accord.

        Raises `StoreError`, `CannotListenError`, `CertificateUnusable`.
        """
        super().startService()  # type: ignore[no-untyped-call]
        # Before anybody asks: the first number of each country would otherwise load its table during a call.
        self.settings.plan.warm_up()
        self.store.start()
        if self._claims is not None:
            self._claims.start()
        self.hub.start()
        self.store.on_events(self.hub.publish)
        self.store.on_foreign_change(self._foreign_change)
        self._load_agents()
        self.turned_away.restore(self.store.listed_numbers())
        restored = self.calls.restore()
        for call in restored:
            log.info("a call was open when the server stopped", call=call.id, pbx=call.record.pbx)
        self.room.restore(restored)
        for reservation in self.store.reservations():
            self.roster.restore(reservation)
        self.writing_up.restore(self.store.wrap_ups())
        self.callbacks.restore(self.store.open_callbacks())
        for record in self.callbacks.in_lines():
            self.room.keeps_place(record.id, record.place or {}, record.party)
        self._index_thread.start()
        for adapter in self._adapters.values():
            self._background("an adapter does not start", self._start_adapter(adapter), adapter=adapter.name)
        # Before anything goes out: a second server on the same store ends here, at the first one's ports.
        self._password_thread.start()
        self._listen()
        self._keep_periods(self.periods.start())
        self.outbox.startService()
        self.newcomers.start()
        self.erasures.look()
        for pbx in self._pbxes.values():
            pbx.client.startService()
        self._every(BEAT, self._beat)
        self._every(1.0, self._expire)
        self._every(ROOM, self.room.look)
        self._every(1.0, self._look_at_desktops)
        self._every(1.0, self.due_calls.look)
        self._every(SWEEP, self._sweep)
        self._every(SWEEP, self._close_old)
        self._every(LOOK, self._look)
        self._every(5.0, self._look_at_adapters)
        self._every(5.0, self._count_outbox)
        self._every(SIGN_OF_LIFE, self._sign_of_life)
        self._every(FORGET, self._forget_answers)
        self._every(DAILY, self._purge_daily)
        self._every(CERTIFICATES, self._refresh_certificate)
        self.metrics.at_scrape(self._feed_gauges)

    def _listen(self) -> None:
        http, agi = self.settings.http, self.settings.fastagi
        self._site = self._make_site()
        where = {
            "port": http.listen.port,
            "factory": self._site,
            "backlog": BACKLOG,
            "interface": http.listen.host,
        }
        if http.tls is None:
            self._ports.append(self._reactor.listenTCP(**where))
        else:
            self._tls = ServerTls(http.tls.certificate, http.tls.key)
            self._ports.append(self._reactor.listenSSL(**where, contextFactory=self._tls))
        self._ports.append(listen(self._reactor, self._agi, agi.listen.host, agi.listen.port))
        ldap = self.settings.phonebook.ldap
        if ldap is not None and ldap.tls is not None:
            self._phonebook_tls = ServerTls(ldap.tls.certificate, ldap.tls.key)
        self._ports += self._phonebook.open(self._phonebook_tls)
        log.info("ready", fastagi=_shown(agi.listen), http=_shown(http.listen))

    def stopService(self) -> "Deferred[None]":
        """Drain and stop: no new questions, those asked are answered, what was acknowledged is written."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping", sessions=self._agi.sessions, calls=len(self.calls))
        for port in self._ports:
            await _done(port.stopListening())  # type: ignore[misc]
        until = self._now() + DRAIN
        while self._agi.sessions and self._now() < until:
            await deferLater(self._reactor, 0.02)
        self._agi.close_all()
        self._phonebook.close()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for pbx in self._pbxes.values():
            await _done(pbx.client.stopService())
        if self._site is not None:
            self._site.close()
        self._password_thread.stop()
        await _done(self.outbox.stopService())
        self.newcomers.stop()
        self.erasures.stop()
        self._keep_periods(self.periods.stop())
        self._current_identifier.close()
        await self._feeds.stop()
        self._index_thread.stop()
        for adapter in self._adapters.values():
            await adapter.stop()
        await self.store.stop()
        if self._claims is not None:
            self._claims.stop()
        super().stopService()  # type: ignore[no-untyped-call]
        log.info("stopped")

    # Configuration.

    def reload(self, settings: Settings) -> None:
        """Take over services, rules and adapters from now on; calls in progress are not touched."""
        old = self._adapters
        self._use(settings)
        self._refresh_certificate(asked=True)
        self.control.use(settings.call_control)
        self._notify_as_configured()
        for name, adapter in self._adapters.items():
            if old.get(name) is not adapter:
                self._background("an adapter does not start", self._start_adapter(adapter), adapter=name)
        for name, adapter in old.items():
            if name not in self._adapters:
                self._background("the phone index goes on", self._feeds.end(name), adapter=name)
            if self._adapters.get(name) is not adapter:
                self._background("an adapter does not stop", adapter.stop(), adapter=name)
        for pbx in self._pbxes.values():
            if pbx.client.up:
                self._background(
                    "the fallbacks could not be written",
                    self._services().write_fallbacks(pbx.client),
                    pbx=pbx.name,
                )
        log.info("configuration taken over", services=len(settings.services), adapters=len(settings.adapters))

    def _use(self, settings: Settings) -> None:
        # What adapters know of the rest of the configuration, too.
        same_plan = (settings.plan, settings.own_numbers) == (self.settings.plan, self.settings.own_numbers)
        same = {
            name
            for name, adapter in settings.adapters.items()
            if same_plan and name in self._adapters and self.settings.adapters.get(name) == adapter
        }
        fresh = make_adapters(settings, self._reactor)
        self._adapters = {name: self._adapters[name] if name in same else fresh[name] for name in fresh}
        self.settings = settings
        self.roster.desks(settings.desks)
        self._current_services = Services(settings.services.values(), settings.plan, settings.links)
        self._calling_times = CallingTimes(settings.callbacks, settings.reports.zone)
        self.turned_away.use(settings.identify)
        self._current_identifier = make_identifier(
            settings,
            self._adapters,
            self._reactor,
            owners=self.roster.owner_of,
            remembered=Remembered(self.store),
            ignored=lambda number: number in self.turned_away.lists.ignored,
            observe=self._identified,
            index=self.index,
        )
        self.index.own = settings.own_numbers
        self._feeds.open(self._listed())
        self.metrics.configure(
            services=settings.services,
            adapters=settings.adapters,
            pbxes=settings.asterisks,
            destinations=self._destinations(),
        )

    def _notify_as_configured(self) -> None:
        """From now on events wait for the destinations of this configuration, and go there."""
        self.notifications = self._notifications()
        self.store.subscribe(self._destinations())
        self.outbox.use(self._senders(), self.settings.outbox.give_up_hours * 3600.0)

    def _journaling(self) -> Mapping[str, Subscription]:
        journals = {name: adapter.journal for name, adapter in self.settings.adapters.items()}
        return journaling(self._adapters, journals)

    def _destinations(self) -> Destinations:
        journals = {destination(name): wanted for name, wanted in self._journaling().items()}
        return {**subscriptions(self.settings), **journals}

    def _senders(self) -> Mapping[str, Sender]:
        journals = {destination(name): self._journal(name) for name in self._journaling()}
        return {**self.notifications.senders, **journals}

    def _notifications(self) -> Notifications:
        return Notifications(
            self.settings, self._reactor, clock=self._now, people=self.roster, call=self.store.call
        )

    def _journal(self, name: str) -> Journal:
        def settings() -> JournalSettings | None:
            adapter = self.settings.adapters.get(name)
            return None if adapter is None else adapter.journal

        return Journal(
            name,
            adapters=lambda: self._adapters,
            settings=settings,
            store=self.store,
            teller=Teller(
                self.roster,
                services=lambda service: self._services().named(service),
                display=lambda number: self.settings.plan.display(number),
                recording_url=lambda call: _recording_url(self.settings, call),
                company=lambda: self.settings.language,
            ),
            blocked=lambda number: number in self.turned_away.lists.blocked,
            now=self._now,
            steady=time.monotonic,
        )

    def _listed(self) -> list[IAdapter]:
        """Those that the configuration wants in the phone index."""
        settings = self.settings.adapters
        return [adapter for name, adapter in self._adapters.items() if settings[name].asking.index]

    async def _start_adapter(self, adapter: IAdapter) -> None:
        try:
            await adapter.start()
        finally:
            # Also one that does not start: the index tries again by itself.
            if adapter in self._listed():
                await self._feeds.begin(adapter)
            else:
                await self._feeds.end(adapter.name)

    def _services(self) -> Services:
        return self._current_services

    def _known_late(self, call: LiveCall, found: Identification) -> None:
        self.late_cards.identified(call, found)

    def _identifier(self) -> Identifier:
        return self._current_identifier

    # Asterisk.

    def _pbx(self, name: str) -> _Pbx:
        asterisk = self.settings.asterisks[name]
        channels = self._channels[name]

        def on_event(event: Event) -> None:
            if held.take(event):
                return
            self.metrics.ami_event(name, event.name)
            channels.take(event)
            try:
                self.tracker.on_event(name, event)
            finally:
                channels.tell()

        client = AmiClient(
            self._reactor,
            asterisk.ami.host,
            asterisk.ami.port,
            asterisk.username,
            asterisk.secret.reveal(),
            on_event=on_event,
            on_up=lambda: self._up(name),
            on_down=lambda reason: self._down(name, reason),
            wanted=WANTED,
            jitter=random.random,
            login=asterisk.login,
            tls=None if asterisk.tls is None else AmiTls(asterisk.tls.name, asterisk.tls.ca),
            gather=GATHER_EVENTS,
        )
        held = HeldEvents(client.happened)
        return _Pbx(name, client, channels, self._now(), held)

    def _call_control_of(self, pbx: _Pbx) -> Pbx:
        capable = self.settings.asterisks[pbx.name].capable_phones
        return Pbx(pbx.name, pbx.client, pbx.channels, self._reactor, capable=capable.__contains__)

    def _answered(self, session: AgiSession) -> Coroutine[Any, Any, None]:
        """What the dialplan asks or tells, by the script that it names."""
        if session.request.script == "outbound":
            return self.outbound.place(session)
        if session.request.script == "identify":
            return self.key_entry.identify(session)
        return self.inbound.route(session)

    def _overflow(self, session: AgiSession) -> Coroutine[Any, Any, None]:
        if session.request.script == "outbound":
            return self.outbound.fall_open(session)
        if session.request.script == "identify":
            return self.key_entry.fall_open(session)
        return self.inbound.fall_open(session)

    async def _up(self, name: str) -> None:
        pbx = self._pbxes[name]
        pbx.held.hold()
        self.metrics.ami_up(name, True)
        self.tracker.up(name, pbx.client)
        at = self._now()
        version = await self._version(pbx)
        log.info("AMI is up", pbx=name, asterisk=version)
        if version is not None and not differences(version).supported:
            log.warning(
                "an Asterisk of a version that may not do", pbx=name, asterisk=version, right=SUPPORTED
            )
        try:
            ended = await self._resync(pbx)
            await self.tracker.collect(name, ended)
            await self.gaps.close(name, pbx.lost, at)
            pbx.in_step = True
            self._background("who is on hold is not known", self.control.recall(name), pbx=name)
        finally:
            # What callers fall back on depends on nothing that is said of calls.
            await self._services().write_fallbacks(pbx.client)

    async def _resync(self, pbx: _Pbx) -> Collection[EndedRecord]:
        try:
            return await self.tracker.resync(pbx.name, pbx.client, pbx.lost)
        finally:
            if pbx.client.up:
                pbx.held.release()

    async def _version(self, pbx: _Pbx) -> str | None:
        try:
            return (await pbx.client.action("CoreSettings")).get("AsteriskVersion")
        except AMI_ERRORS:
            return None

    async def _presentation(self, pbx: str, channel: str) -> str:
        """Whether the number of this channel's caller may be shown, in Asterisk's words: `prohib…` if not."""
        client = self._pbxes[pbx].client
        answer = await client.action("Getvar", Channel=channel, Variable="CALLERID(num-pres)")
        return answer.get("Value")

    def _learn(self, did: str, service: RoutedService) -> None:
        """A form of a number that was new at one Asterisk may come to the others next."""
        services = self._services()
        if services.knows(did):
            return
        for pbx in self._pbxes.values():
            if pbx.client.up:
                self._background(
                    "the fallback of a number could not be written",
                    services.learn(did, service, pbx.client),
                    pbx=pbx.name,
                )

    def _down(self, name: str, reason: str) -> None:
        log.warning("AMI is down", pbx=name, why=reason)
        self._pbxes[name].lost = self._now()
        self._pbxes[name].in_step = False
        self._pbxes[name].held.forget()
        self.metrics.ami_up(name, False)
        self.tracker.down(name)

    # Regular work.

    def _refresh_certificate(self, *, asked: bool = False) -> None:
        for tls in filter(None, (self._tls, self._phonebook_tls)):
            # In a thread: the disk may hang.
            refreshed = self._in_thread(partial(tls.refresh, asked=asked))
            self._background("the certificate could not be looked at", refreshed)

    def _every(self, seconds: float, work: Callable[[], object]) -> None:
        def guarded() -> None:
            try:
                work()
            except Exception:
                log.exception("regular work failed", work=work.__name__)

        loop = LoopingCall(guarded)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(seconds, now=False)

    def _beat(self) -> None:
        now = self._now()
        if now - self._beaten > STOOD_STILL:
            log.warning("this process stood still", seconds=round(now - self._beaten, 1))
            self._thawed = now
        self._beaten = now

    def _stood_still(self) -> bool:
        """Whether the reactor had no turn for longer than Asterisk waits, until a moment ago."""
        now = self._now()
        return now - self._beaten > STOOD_STILL or now - self._thawed < THAWING

    def _expire(self) -> None:
        late = self.roster.expire()
        if late:
            unit = self.store.unit()
            for agent, call in late:
                log.warning("a reservation has run out", call=call, agent=agent)
                unit.remove_reservation(agent, call)
                unit.touch_agent(agent, self.roster.record(agent).idle_since)
                self.tracker.lease_ran_out(unit, agent, call)
            self._background("expired reservations could not be written", self.calls.commit(unit))
        written = self.writing_up.expire()
        if written is not None:
            self._background("the end of a wrap-up could not be written", self.calls.commit(written))

    def _look_at_desktops(self) -> None:
        missing: Collection[str] = ()
        if not self.settings.desk.ready_without_desktop:
            missing = self._presence.missing(self.roster.agents, self._now())
        self.roster.without_desktop(missing)

    def _look(self) -> None:
        self._sweep(only=self.tracker.may_have_missed_an_end)

    def _sweep(self, only: Callable[[str], bool] = lambda _: True) -> None:
        for pbx in self._pbxes.values():
            if pbx.client.up and not pbx.sweeping and only(pbx.name):
                pbx.sweeping = True
                swept = self._background("a sweep failed", self._sweep_one(pbx), pbx=pbx.name)
                swept.addBoth(_not_sweeping, pbx)

    def _close_old(self) -> None:
        self.tracker.hold_on(NO_ASTERISK)
        kept = self.settings.open_calls
        hours = {NO_ASTERISK: kept.softphone_hours}
        self.tracker.close_old(lambda call: 3600.0 * hours.get(call.record.pbx, kept.asterisk_hours))

    async def _sweep_one(self, pbx: _Pbx) -> None:
        at = self._now()
        await self.tracker.sweep(pbx.name, pbx.client, in_step=pbx.in_step)
        if pbx.in_step:
            # It has answered: what it said before has been heard.
            await self.gaps.heard(pbx.name, at)

    def _look_at_adapters(self) -> None:
        for adapter in self._adapters.values():
            self._background("an adapter has no health", self._look_at(adapter), adapter=adapter.name)

    async def _look_at(self, adapter: IAdapter) -> None:
        health = await adapter.health()
        self.metrics.adapter_up(adapter.name, health.up)

    def _count_outbox(self) -> None:
        self._background("the outbox could not be counted", self._count())

    async def _count(self) -> None:
        pending = await self.store.count_pending()
        self.metrics.outbox(pending, await self.store.count_dead(), self._now())

    def _sign_of_life(self) -> None:
        self._keep_periods(self.periods.sign_of_life())

    def _keep_periods(self, unit: Unit | None) -> None:
        if unit is not None:
            written = self.store.commit(unit, at_leisure=True).addErrback(self._periods_lost)
            self._background("what agents' time goes into could not be written", written)

    def _periods_lost(self, failure: Failure) -> Failure:
        self.periods.lost(self.roster.agents)
        return failure

    def _forget_answers(self) -> None:
        if self._site is not None:
            self._background("old answers could not be removed", self._site.once.forget())

    def _purge_daily(self) -> None:
        self._background("what is too old could not be removed", self._daily.look())

    async def _purge_now(self, dry: bool) -> Mapping[str, int]:
        return await self.purge(self.settings.retention, dry=dry).run()

    def purge(self, retention: Retention, *, dry: bool = False) -> Purge:
        """One round of removing what is too old."""
        places = {
            name: each.recordings
            for name, each in self.settings.asterisks.items()
            if each.recordings is not None
        }
        return Purge(self.store, retention, places, self._in_thread, self._now(), dry=dry)

    # People who are erased.

    def _erasing(self) -> Erasing:
        return Erasing(
            self.store,
            files_of(self.settings),
            self._in_thread,
            self._now,
            is_open=lambda call: call["state"] != "ended" or self._is_live(call["id"]),
        )

    def _is_live(self, call: str) -> bool:
        return self.calls.get(call) is not None or self.writing_up.call(call) is not None

    def _forget(self, subject: Subject) -> None:
        """Nothing of them stays in memory, but their calls that live."""
        for number in subject.numbers:
            self._current_identifier.forget(number=number)
        for adapter, _ in subject.parties:
            self._current_identifier.forget(adapter)
        self.turned_away.forget(subject.numbers)
        unit = self.callbacks.erase(subject.numbers, Traces(subject).is_party)
        if unit is not None:
            self._background("desktops do not hear of callbacks that are gone", self.calls.commit(unit))

    def _feed_gauges(self) -> None:
        counts: dict[str, int] = {}
        over, now = 0, self._now()
        for view in self.roster.views():
            counts[view.state] = counts.get(view.state, 0) + 1
            pause = pause_json(view, self.settings.desk.pauses, now)
            over += pause is not None and pause["over"]
        self.metrics.agents(counts, over)
        self.metrics.event_streams(self.hub.count)
        self.metrics.callbacks(self.callbacks.counts())
        for part in self.index.status():
            self.metrics.indexed(part.adapter, part.numbers, part.age)
        self.metrics.waiting_calls(
            Counter(
                call.record.service
                for pbx in self._pbxes
                for call in self.calls.of_pbx(pbx)
                if call.record.service is not None and call.record.state in ("asked", "offered", "waiting")
            )
        )

    # People.

    def _load_agents(self) -> None:
        records = list(self.store.agents())
        fresh = not records and self.store.event_range() == (0, 0)
        if fresh and self.settings.agents:
            records = seeds(self.settings, self._now())
            unit = self.store.unit()
            for record in records:
                unit.put_agent(record)
            self._background("the agents of the configuration could not be stored", self.store.commit(unit))
        self.roster.desks(self.settings.desks)
        self.roster.load(records)

    def _foreign_change(self) -> None:
        """The command line has written: its agents and tokens count from now on."""
        # What the store does not have yet is newer than what it has.
        newer = self._wishes_on_their_way.keys()
        records = self.store.agents()
        known = {id: self.roster.record(id).wish_since for id in self.roster.agents}
        self._end_wrap_ups(r.id for r in records if r.wish_since != known.get(r.id, r.wish_since))
        self.roster.load([self.roster.record(r.id) if r.id in newer else r for r in records])
        self.turned_away.restore(self.store.listed_numbers())
        self.tokens.forget()
        self.sessions.forget()
        self.erasures.look()
        self.hub.poke()

    def _end_wrap_ups(self, agents: Iterable[str]) -> None:
        """Their state was set by a command, which ends a wrap-up as the API does."""
        unit = self.store.unit()
        if [agent for agent in agents if self.writing_up.end(unit, agent)]:
            self._background("the end of a wrap-up could not be written", self.calls.commit(unit))

    def views(self) -> list[AgentView]:
        return self.roster.views()

    def set_wish(self, agent: str, wish: str, reason: str | None, by: str) -> "Deferred[None]":
        """What an agent asks for, over the API. Fires when it is durable; raises `AgentUnknown`."""
        record = self.roster.wish(agent, Wish(wish), reason)
        unit = self.store.unit()
        if wish == Wish.LOGGED_OUT:
            # They have given up the desk at which they sat.
            unit.put_phone(agent, record.phone)
        # Whatever they want to do next, they have done with the last call.
        self.writing_up.end(unit, agent)
        unit.put_wish(record)
        log.info("an agent's state was set", agent=agent, state=wish, by=by)
        return self._commit_wish(unit, agent)

    def _not_answered(self, agent: str, offer: SegmentRecord) -> None:
        """Their phone rang for this offer to its end: who lets too many ring is set aside until they come back."""
        limit = self.settings.set_aside_after.of(offer.service)
        record = self.roster.not_answered(agent, offer.offered, limit)
        if record is None:
            return
        unit = self.store.unit()
        unit.put_wish(record)
        log.info("an agent is set aside, who did not answer", agent=agent, call=offer.call)
        self._background(
            "that an agent is set aside could not be written", self._commit_wish(unit, agent), agent=agent
        )

    def choose_phone(self, agent: str, phone: str | None, wish: str | None, by: str) -> "Deferred[None]":
        """Where an agent sits, who is about to ask for the state `wish`, if for any.

        Fires when it is durable; raises `AgentUnknown`, `PhoneUnknown`, `AgentNotReady`.
        """
        self.roster.choose_phone(agent, phone, None if wish is None else Wish(wish))
        unit = self.store.unit()
        unit.put_phone(agent, phone)
        # No other state, but their other browsers have to hear of it.
        self.calls.agent_changed(self.roster.view(agent))
        log.info("an agent's phone was chosen", agent=agent, phone=phone, by=by)
        return self._commit_wish(unit, agent)

    def set_skills(self, agent: str, skills: Mapping[str, int], by: str) -> "Deferred[None]":
        """What an agent is good at. Fires when it is durable; raises `AgentUnknown`, `ValueError` for a bad name."""
        for skill in skills:
            if not is_name(skill):
                raise ValueError(f"{quoted(skill)} is no skill; {NAME_IS}")
        self.roster.set_skills(agent, skills)
        unit = self.store.unit()
        unit.put_skills(agent, skills)
        log.info("an agent's skills were set", agent=agent, by=by)
        return self._commit_wish(unit, agent)

    def _commit_wish(self, unit: Unit, agent: str) -> "Deferred[None]":
        """Until it is written, what the store has of the agent is older than what we know."""
        self._wishes_on_their_way[agent] += 1
        return self.calls.commit(unit).addBoth(self._wish_arrived, agent)

    def _wish_arrived(self, outcome: Any, agent: str) -> "Failure | None":
        self._wishes_on_their_way -= Counter({agent: 1})
        return outcome if isinstance(outcome, Failure) else None

    # The web.

    def _make_site(self) -> Site:
        http = self.settings.http
        return make_site(
            WebServices(
                calls=self.store,
                answers=self.store,
                numbers=self.settings.plan,
                identifier=self,
                agents=self,
                control=self.control,
                desktop=Desktop(
                    self.desk,
                    self.painting,
                    self.written,
                    self.writing_up,
                    self.callbacks,
                    self.parties,
                    self.finder,
                ),
                recordings=self.recordings,
                deliveries=Deliveries(self.store, self.outbox, self._now),
                try_destination=lambda name: self.notifications.test(name),
                softphones=self.softphones,
                turned_away=self.turned_away,
                explain=self._explain,
                health=self,
                privacy=Privacy(self.store, self.erasures, self._purge_now),
                metrics=self.metrics,
                hub=self.hub,
                tokens=self.tokens,
                users=self.store,
                sessions=self.sessions,
                login=self.login,
                audit=self.audit,
                clock=self._reactor,
                in_thread=self._in_thread,
                reports=self.reports,
                masking=self._masking,
                directories=lambda: {
                    name: adapter
                    for name, adapter in self._adapters.items()
                    if isinstance(adapter, DirectoryAdapter)
                },
                options=Options(
                    behind_proxy=http.behind_proxy,
                    url=http.url,
                    metrics_allow=http.metrics_allow,
                    requests_per_minute=http.requests_per_minute,
                    links=lambda: self.settings.links,
                    reports=lambda: self.settings.reports,
                    pauses=lambda: self.settings.desk.pauses,
                ),
            )
        )

    def _still_valid(self, identity: Identity) -> bool:
        return (self.sessions if identity.user else self.tokens).valid(identity)

    def _in_password_thread(self, work: Callable[[], T]) -> "Deferred[T]":
        return deferToThreadPool(self._reactor, self._password_thread, work)

    def _in_index_thread(self, work: Callable[..., Any], *arguments: Any) -> "Deferred[Any]":
        return deferToThreadPool(self._reactor, self._index_thread, work, *arguments)

    def _in_thread(self, work: Callable[[], Any]) -> "Deferred[Any]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    def identify(self, number: Any) -> Any:
        """Who has a number, with the adapters of this moment."""
        return self._current_identifier.identify(number)

    async def _explain(self, question: DryRun) -> Mapping[str, Any]:
        return await explain(
            question.from_raw,
            question.to_raw,
            question.at,
            now=self._now(),
            services=self._services(),
            identifier=self._identifier(),
            roster=self.roster,
            line=self.room.line,
            refusal=self.turned_away.lists.refusal,
            history=self.history.of,
            own=self.own_code.of,
        )

    def health(self) -> Mapping[str, Component]:
        """What must work for the process to be worth keeping: the store, for reading and for writing."""
        try:
            self.store.event_range()
        except StoreError as error:
            log.error("the store cannot be read", why=str(error))
            return {"store": Component(False, "cannot be read")}
        trouble = self.store.writing()
        if trouble is not None:
            log.error("the store cannot be written to", why=trouble)
            # While the spool has room, calls go on and none is lost.
            needed = self._spool is None or not self._spool.has_room
            return {"store": Component(False, "cannot be written to", needed=needed), **self._spool_health()}
        return {"store": Component(True, "ok"), **self._spool_health()}

    def _spool_health(self) -> dict[str, Component]:
        if self._spool is None:
            return {}
        trouble = self._spool.trouble()
        return {"spool": Component(trouble is None, trouble or "empty", needed=False)}

    def ready(self) -> Mapping[str, Component]:
        """What must work for calls to be sent here; and each AMI, without which routing goes on."""
        components = dict(self.health())
        components["fastagi"] = Component(not self._stopping, "stopping" if self._stopping else "listening")
        for name, pbx in self._pbxes.items():
            components[f"ami.{name}"] = Component(pbx.client.up, pbx.client.state, needed=False)
        return components

    # Measuring.

    def _identified(self, adapter: str, outcome: str, seconds: float) -> None:
        self.metrics.identified(adapter, str(outcome), seconds)

    def _call_ended(self, record: CallRecord) -> None:
        self.metrics.call_ended(record.direction, record.service, record.outcome or "failed")
        if record.direction == "inbound" and record.answered is not None:
            self.metrics.waited(record.service, record.answered - record.started)
        log.info(
            "call ended",
            call=record.id,
            service=record.service,
            outcome=record.outcome,
            agent=record.agent,
            seconds=round((record.ended or record.started) - record.started, 1),
        )

    @staticmethod
    def _background(
        what: str, work: "Coroutine[Any, Any, Any] | Deferred[Any]", **fields: str
    ) -> "Deferred[Any]":
        """Let it run; if it fails, that is said in the log and nowhere else."""
        running = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)

        def failed(failure: Failure) -> None:
            if isinstance(failure.value, (AdapterError, PbxError, StoreError, OSError, *AMI_ERRORS)):
                log.error(what, why=str(failure.value), **fields)
            else:
                log.error(what, exception=failure.getTraceback(), **fields)

        return running.addErrback(failed)


def _card_url(settings: Settings) -> str | None:
    """Where a call's card is seen, with `{call}` for its id."""
    return settings.http.url and f"{settings.http.url}/?call={{call}}"


def _recording_url(settings: Settings, call: str) -> str | None:
    """Where a call is heard by who may."""
    return settings.http.url and f"{settings.http.url}/api/v1/calls/{call}/recording"


def _shown(address: Address) -> str:
    return f"{address.host}:{address.port}"


def _not_sweeping(_: object, pbx: _Pbx) -> None:
    pbx.sweeping = False


async def _done(work: Any) -> None:
    """Wait for what may be a Deferred, as Twisted's stop methods give one or None."""
    if isinstance(work, Deferred):
        await work
