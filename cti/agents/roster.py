"""Who is there: every agent with their wish, their phones' device states and the call they are held for.

The roster is the one place that says whether an agent may be offered a call, and the one that reserves them.
It writes nothing and shows nothing: what changed is handed to the listener that `service.py` plugs in.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from attrs import define, evolve, field, frozen

from cti.agents.desks import Desks
from cti.agents.seats import Seats
from cti.agents.states import (
    ABSENT,
    DEVICE_WHY_NOT,
    SET_ASIDE,
    TAKES_ONE_MORE,
    WEIGHTIEST,
    Engagement,
    Step,
    Wish,
    state,
    step,
)
from cti.store.records import AgentRecord, ReservationRecord
from routing.facts import EVERYBODY, AgentFacts, Group

#: Seconds for which an agent whom another server has is not asked for again.
ELSEWHERE: Final = 2.0


class AgentUnknown(Exception):
    """Nobody has this id; the text names it."""


class AgentNotReady(Exception):
    """The agent cannot be offered a call now; the text says why."""


class PhoneUnknown(Exception):
    """The phone is neither the agent's nor a desk's; the text names both."""


class PhoneOutOfSight(AgentNotReady):
    """The Asterisk that has the agent's phone is away; the text names both."""


@frozen
class Lease:
    """An agent held for a call until `expires` (epoch seconds); `engagement`: what the call makes of them.

    A lease is renewed while Asterisk says that the call lives, and ends by itself when nobody can say so any
    more: an agent must come free again although the end of their call went unseen.
    """

    call: str
    attempt: int
    expires: float
    engagement: Engagement = Engagement.NONE


@define
class _Agent:
    record: AgentRecord
    engaged_since: float = 0.0
    # By the call that holds them, the latest last.
    leases: dict[str, Lease] = field(factory=dict)
    last_offered: float = 0.0
    # Offers that rang to their end, one after the other; a restart forgets them.
    unanswered: int = 0
    facts: AgentFacts = field(init=False)

    @property
    def engagement(self) -> Engagement:
        """What all their calls together make of them."""
        held = {lease.engagement for lease in self.leases.values()}
        return next((each for each in WEIGHTIEST if each in held), Engagement.NONE)

    def engagement_in(self, call: str) -> Engagement:
        lease = self.leases.get(call)
        return Engagement.NONE if lease is None else lease.engagement


@frozen
class AgentView:
    """One agent as the API and the command line show them."""

    id: str
    name: str
    state: str
    reason: str | None
    since: float
    phones: Sequence[str]
    groups: Sequence[str]
    call: str | None
    why_not: str | None
    phone: str | None = None
    skills: Mapping[str, int] = field(factory=dict)
    concurrency: int = 1


class Roster:
    """All agents of the company, in memory; the store keeps what must survive.

    @ivar agents: what routing may know of each, by id. A live mapping: read it at once, keep nothing of it.
    @ivar groups: the same by group, and all of them as `EVERYBODY`.
    """

    def __init__(self, now: Callable[[], float], changed: Callable[[AgentView], None]) -> None:
        """`now` gives epoch seconds; `changed` is told of each agent whose state became another."""
        self.agents: dict[str, AgentFacts] = {}
        self.groups: dict[str, Group] = {}
        self._now = now
        self._changed = changed
        self._freed: Callable[[str], None] = lambda _: None
        self._held: Callable[[str, bool], None] = lambda _id, _is: None
        # Whom another server has, until when we take its word for that.
        self._elsewhere: dict[str, float] = {}
        self._agents: dict[str, _Agent] = {}
        self._seats = Seats()
        self._crm: dict[tuple[str, str], str] = {}
        self._devices: dict[str, dict[str, str]] = {}
        # The Asterisks that have, or had when they were last in sight, a phone of this name.
        self._homes: dict[str, set[str]] = {}
        self._in_sight: set[str] = set()
        self._told: set[str] = set()
        self._without_desktop: frozenset[str] = frozenset()

    def on_free(self, told: Callable[[str], None]) -> None:
        """Let this be told of each agent who may be offered a call from now on."""
        self._freed = told

    def on_held(self, told: Callable[[str, bool], None]) -> None:
        """Let this be told of each agent who is held from now on, or not any more."""
        self._held = told

    def free(self) -> Sequence[str]:
        """Who may be offered a call now, the longest idle first."""
        group = self.groups.get(EVERYBODY)
        return [] if group is None else [agent.id for agent in group.free()]

    @property
    def group_names(self) -> Collection[str]:
        """The groups that people can name."""
        return self.groups.keys() - {EVERYBODY}

    # People, as the store has them.

    def load(self, records: Iterable[AgentRecord]) -> None:
        """Take over the agents as they stand in the store; who is missing from `records` is gone.

        An agent in a call keeps the call: only wish, phones, groups, skills and ids are taken over. Who is logged
        out sits at no desk.
        """
        records = list(records)
        for gone in self._agents.keys() - {record.id for record in records}:
            self._forget(gone)
        for record in records:
            known = self._agents.get(record.id)
            if known is None:
                self._agents[record.id] = known = _Agent(record)
                before = None
            elif known.record == record:
                continue
            else:
                before = self._word(known)
                self._unindex(known)
                if record.wish_since != known.record.wish_since:
                    known.unanswered = 0
                record.idle_since = max(record.idle_since, known.record.idle_since)
                known.record = record
            self._index(known)
            self._refresh(known, before)
        self._clear_seats()

    def record(self, id: str) -> AgentRecord:
        """The stored part of an agent. Raises `AgentUnknown`."""
        return self._agent(id).record

    def wish(self, id: str, wish: Wish, reason: str | None) -> AgentRecord:
        """Set what an agent asks for, and return the record to be stored. Raises `AgentUnknown`.

        Leaving `logged_out` or `paused` makes an agent the last in the line of the idle; logging out gives up the
        desk at which they sit.
        """
        agent = self._agent(id)
        before = self._word(agent)
        now = self._now()
        agent.unanswered = 0
        if wish == Wish.READY and agent.record.wish != Wish.READY:
            agent.record.idle_since = now
        if wish != agent.record.wish or reason != agent.record.reason:
            agent.record.wish_since = now
        if wish == Wish.LOGGED_OUT:
            self._seats.leave(agent.record)
        other_reason = (agent.record.wish, before) == (wish, wish) and agent.record.reason != reason
        agent.record.wish = str(wish)
        agent.record.reason = reason
        self._refresh(agent, before)
        if other_reason:
            self._changed(self._view(agent))
        return agent.record

    def not_answered(self, id: str, offered: float, limit: int) -> AgentRecord | None:
        """An agent has let an offer of that time ring to its end. Who does so `limit` times in a row is set aside.

        The record to be stored is returned then. With 0 nobody is set aside, and nothing is counted. Whoever has set
        their state since the offer was made stays as they wish, who talks in another call is there, and who is gone
        is no error.
        """
        agent = self._agents.get(id)
        if (
            agent is None
            or limit == 0
            or agent.record.wish != Wish.READY
            or agent.record.wish_since > offered
            or agent.engagement is Engagement.BUSY
        ):
            return None
        agent.unanswered += 1
        return self.wish(id, Wish.PAUSED, SET_ASIDE) if agent.unanswered >= limit else None

    def choose_phone(self, id: str, phone: str | None, wish: Wish | None = None) -> AgentRecord:
        """The agent sits at this one of their phones, or at that desk; None: all of their own ring.

        Returns the record to be stored. `wish`: what they are going to ask for with it.

        Raises `AgentUnknown`; `PhoneUnknown` for one that is neither; `AgentNotReady` where somebody else sits at
        the desk, and for who has a call, or is logged out, and so can take no desk.
        """
        agent = self._agent(id)
        own, chosen = agent.record.phones, self._seats.chosen(agent.record)
        if phone == chosen:
            return agent.record
        if phone is not None and phone not in own:
            self._check_desk(agent, phone, wish or Wish(agent.record.wish))
        if agent.leases and {phone, chosen} - {None, *own}:
            raise AgentNotReady(f"{id} has a call, and takes or leaves a desk after it")
        before = self._word(agent)
        self._seats.sit(agent.record, phone)
        self._refresh(agent, before)
        return agent.record

    def _check_desk(self, agent: _Agent, phone: str, wish: Wish) -> None:
        """Raises what `choose_phone` does of a phone that is not their own."""
        id = agent.record.id
        if not self._seats.is_desk(phone):
            own = " or ".join(agent.record.phones) or "there is none"
            raise PhoneUnknown(f"{phone} is no phone of {id} and no desk's; {own}")
        if wish is Wish.LOGGED_OUT:
            raise AgentNotReady(f"{id} is logged out; who is ready or paused takes a desk")
        if (other := self._seats.at(phone)) is not None:
            raise AgentNotReady(
                f"{self.name_of(other)} sits at {phone}; another desk, or after their log-out"
            )

    def desks(self, desks: Desks) -> None:
        """These are the desks from now on; who sits at another phone has left it."""
        self._seats.desks = desks
        self._clear_seats()

    def free_desks(self) -> list[str]:
        """The desks whose phone can be rung and at which nobody sits."""
        return sorted(
            phone
            for phone, said in self._devices.items()
            if self._seats.is_desk(phone)
            and self._seats.at(phone) is None
            and any(word not in ABSENT for word in said.values())
        )

    def set_skills(self, id: str, skills: Mapping[str, int]) -> None:
        """What the agent is good at from now on. Raises `AgentUnknown`."""
        agent = self._agent(id)
        agent.record.skills = dict(skills)
        self._refresh(agent, self._word(agent))

    def without_desktop(self, ids: Collection[str]) -> None:
        """These agents, and no others, are not offered calls because they have no desktop open."""
        changed, self._without_desktop = self._without_desktop ^ frozenset(ids), frozenset(ids)
        for id in changed & self._agents.keys():
            self._refresh(self._agents[id], self._word(self._agents[id]))

    def name_of(self, id: str) -> str:
        """What an agent is called; the id of one who is gone."""
        agent = self._agents.get(id)
        return id if agent is None else agent.record.name

    def user_of(self, id: str, adapter: str) -> str | None:
        """Which user of that CRM the agent is, if any."""
        agent = self._agents.get(id)
        return None if agent is None else agent.record.crm.get(adapter)

    def owner_of(self, adapter: str, user: str) -> str | None:
        """The agent who is this user in that CRM."""
        return self._crm.get((adapter, user))

    def at_phone(self, device: str) -> str | None:
        """The agent whose phone this is, such as `PJSIP/anna`, or who sits at it."""
        return self._seats.at(device)

    def views(self) -> list[AgentView]:
        """Everybody, by id."""
        return [self._view(self._agents[id]) for id in sorted(self._agents)]

    def view(self, id: str) -> AgentView:
        """One agent. Raises `AgentUnknown`."""
        return self._view(self._agent(id))

    # Phones, as Asterisk has them.

    def device_state(self, pbx: str, device: str, word: str) -> None:
        """Take note of a device state (`NOT_INUSE` and so on) that Asterisk `pbx` reports."""
        states = self._devices.setdefault(device, {})
        if states.get(pbx) == word:
            return
        id = self.at_phone(device)
        before = self._word(self._agents[id]) if id is not None else None
        states[pbx] = word
        homes = self._homes.setdefault(device, set())
        (homes.discard if word == "INVALID" else homes.add)(pbx)
        if id is not None:
            self._refresh(self._agents[id], before)

    def has_told(self, pbx: str) -> None:
        """Asterisk `pbx` has told of all its phones: whom it has not named has none there."""
        self._in_sight.add(pbx)
        self._told.add(pbx)
        for device, homes in self._homes.items():
            if pbx in homes and pbx not in self._devices.get(device, {}):
                homes.discard(pbx)
                if (id := self.at_phone(device)) is not None:
                    self._refresh(self._agents[id], self._word(self._agents[id]))

    def sees(self, pbx: str) -> bool:
        """Whether Asterisk `pbx` tells us of its phones now."""
        return pbx in self._in_sight

    def knows_phones_of(self, pbx: str) -> bool:
        """Whether it is known which phones Asterisk `pbx` has; they stay the same while it is out of sight."""
        return pbx in self._told

    def forget_devices(self, pbx: str) -> None:
        """Asterisk `pbx` is out of sight: what it said of its phones' states is not to be relied on any more."""
        self._in_sight.discard(pbx)
        for device, states in self._devices.items():
            if states.pop(pbx, None) is not None and (id := self.at_phone(device)) is not None:
                self._refresh(self._agents[id], self._word(self._agents[id]))

    # Calls.

    def reserve(self, ids: Sequence[str], call: str, attempt: int, expires: float) -> list[ReservationRecord]:
        """Hold all these agents for a call, or none of them; who is held for it already is held on.

        Raises `AgentNotReady`.
        """
        agents = [self._agent(id) for id in ids]
        for agent in agents:
            if not _may_have(agent, call):
                raise AgentNotReady(f"{agent.record.id}: {agent.facts.why_not or 'has this call already'}")
        for agent in agents:
            agent.last_offered = self._now()
            self._hold(agent, Step.RESERVE, Engagement.OFFERED, Lease(call, attempt, expires))
        return [ReservationRecord(id, call, attempt, expires) for id in ids]

    def unreserve(self, ids: Iterable[str], call: str) -> None:
        """As if they had never been reserved for this call: nobody's turn is over."""
        for id in ids:
            agent = self._agents.get(id)
            if agent is not None and agent.engagement_in(call) is Engagement.OFFERED:
                self._engage(agent, Step.RELEASE, call, None)

    def elsewhere(self, ids: Iterable[str]) -> None:
        """Another server holds these; it is not asked again for a moment."""
        for id in ids:
            if id in self._agents:
                self._elsewhere[id] = self._now() + ELSEWHERE
                self._refresh(self._agents[id], self._word(self._agents[id]))

    def may_reserve(self, ids: Sequence[str], call: str) -> bool:
        """Whether `reserve` would do it."""
        return all(id in self._agents and _may_have(self._agents[id], call) for id in ids)

    def connect(self, id: str, call: str, expires: float) -> ReservationRecord | None:
        """The agent talks now: on the call that they are held for, or on one that reached them otherwise.

        None for nobody of ours, and for somebody who is held for as many others as they may have at once, or writes
        one up.
        """
        agent = self._agents.get(id)
        if agent is None:
            return None
        agent.unanswered = 0
        lease = agent.leases.get(call)
        if agent.engagement is Engagement.WRAP_UP or (lease is None and _has_all(agent)):
            return None
        attempt = 0 if lease is None else lease.attempt
        self._hold(agent, Step.CONNECT, Engagement.BUSY, Lease(call, attempt, expires))
        return ReservationRecord(id, call, attempt, expires, connected=True)

    def is_held(self, id: str, but: str) -> bool:
        """Whether another call than this holds the agent."""
        agent = self._agents.get(id)
        return agent is not None and bool(agent.leases.keys() - {but})

    def restore(self, reservation: ReservationRecord) -> None:
        """Hold an agent again as they were held before the server was restarted."""
        agent = self._agents.get(reservation.agent)
        if agent is None or reservation.call in agent.leases:
            return
        lease = Lease(reservation.call, reservation.attempt, reservation.expires)
        self._engage(agent, Step.RESERVE, lease.call, lease)
        if reservation.connected:
            self._engage(agent, Step.CONNECT, lease.call, lease)

    def write_up(self, id: str, call: str, written: str, until: float) -> bool:
        """The agent is out of this call, and held to write one up, mostly the same.

        False for who was not held for it, or is for another one.
        """
        agent = self._agents.get(id)
        if agent is None or agent.leases.keys() != {call} or agent.engagement is Engagement.WRAP_UP:
            return False
        self._engage(agent, Step.WRITE_UP, call, Lease(written, 0, until))
        return True

    def prolong(self, id: str, call: str, until: float) -> None:
        """Hold who writes this call up for longer."""
        agent = self._agents.get(id)
        if agent is not None and agent.engagement_in(call) is Engagement.WRAP_UP:
            agent.leases[call] = evolve(agent.leases[call], expires=until)

    def restore_wrap_up(self, id: str, call: str, until: float) -> bool:
        """Hold an agent who wrote a call up before the server was restarted; False if something else has them."""
        agent = self._agents.get(id)
        if agent is None or agent.engagement is not Engagement.NONE:
            return False
        lease = Lease(call, 0, until)
        for what in (Step.CONNECT, Step.WRITE_UP):
            self._engage(agent, what, call, lease)
        return True

    def release(self, id: str, call: str) -> bool:
        """Let go of an agent who was held for this call. False when they were not, which is no error.

        Who talked, or let it ring, goes to the end of the line of the idle; the caller of this method stores it.
        """
        agent = self._agents.get(id)
        if agent is None or call not in agent.leases:
            return False
        agent.record.idle_since = self._now()
        self._engage(agent, Step.RELEASE, call, None)
        return True

    def renew(self, call: str, ids: Iterable[str], expires: float) -> None:
        """Asterisk has just confirmed that the call lives: hold its agents on."""
        for id in ids:
            agent = self._agents.get(id)
            if agent is not None and (lease := agent.leases.get(call)) is not None:
                agent.leases[call] = evolve(lease, expires=max(expires, lease.expires))

    def expire(self) -> list[tuple[str, str]]:
        """Let go of all whose lease has run out; (agent, call) of each. Who writes up is not among them."""
        now = self._now()
        for id in [id for id, until in self._elsewhere.items() if until <= now]:
            del self._elsewhere[id]
            if id in self._agents:
                self._refresh(self._agents[id], self._word(self._agents[id]))
        late = [
            (agent.record.id, lease.call)
            for agent in self._agents.values()
            for lease in agent.leases.values()
            if lease.expires <= now and lease.engagement is not Engagement.WRAP_UP
        ]
        for id, call in late:
            self.release(id, call)
        return late

    def desk(self, id: str) -> tuple[str, str]:
        """The Asterisk and the phone at which an agent can be rung for a call of their own making.

        Whatever they wish: who is paused may call, and who writes a call up. Raises `AgentUnknown`, `AgentNotReady`
        for who has a call, and `PhoneOutOfSight`.
        """
        agent = self._agent(id)
        if agent.engagement not in (Engagement.NONE, Engagement.WRAP_UP):
            raise AgentNotReady(f"{id} has a call already ({state(Wish.READY, agent.engagement)})")
        why_not = "has no phone here" if self._seats.rung(agent.record) else "has no phone"
        away = None
        for phone in self._seats.rung(agent.record):
            # An outside line rings a mobile, and its voicemail would begin to call customers.
            if "@" in phone:
                continue
            for pbx, word in self._devices.get(phone, {}).items():
                if (why := DEVICE_WHY_NOT.get(word)) is None:
                    return pbx, phone
                why_not = f"{phone} {why}"
            for pbx in sorted(self._homes.get(phone, set()) - self._in_sight):
                away = away or f"{phone} is at the Asterisk {pbx}, to which there is no connection"
        if away is not None:
            raise PhoneOutOfSight(f"{id} cannot be rung: {away}")
        raise AgentNotReady(f"{id} cannot be rung: {why_not}")

    # How it is kept.

    def _agent(self, id: str) -> _Agent:
        try:
            return self._agents[id]
        except KeyError:
            raise AgentUnknown(f"there is no agent {id!r}") from None

    def _hold(self, agent: _Agent, what: Step, makes: Engagement, lease: Lease) -> None:
        """Hold the agent for the call by this step; hold them on, if it has made that of them already."""
        if agent.engagement_in(lease.call) is makes:
            agent.leases[lease.call] = evolve(lease, engagement=makes)
        else:
            self._engage(agent, what, lease.call, lease)

    def _engage(self, agent: _Agent, what: Step, call: str, lease: Lease | None) -> None:
        """Take a step out of what this call makes of them, and hold them by the lease, or no more."""
        before, was_held = self._word(agent), bool(agent.leases)
        engagement = step(agent.engagement_in(call), what)
        agent.leases.pop(call, None)
        if lease is not None:
            agent.leases[lease.call] = evolve(lease, engagement=engagement)
        agent.engaged_since = self._now()
        if was_held != bool(agent.leases):
            self._held(agent.record.id, not was_held)
        self._refresh(agent, before)

    def _forget(self, id: str) -> None:
        agent = self._agents.pop(id)
        if agent.leases:
            self._held(id, False)
        self._unindex(agent)
        self.agents.pop(id, None)

    def _index(self, agent: _Agent) -> None:
        self._seats.add(agent.record)
        for adapter, user in agent.record.crm.items():
            self._crm[adapter, user] = agent.record.id

    def _unindex(self, agent: _Agent) -> None:
        id = agent.record.id
        self._seats.remove(agent.record)
        for key in agent.record.crm.items():
            if self._crm.get(key) == id:
                del self._crm[key]
        for group in (EVERYBODY, *agent.record.groups):
            self.groups[group].drop(id)

    def _clear_seats(self) -> None:
        for id in self._seats.without_desk():
            agent = self._agents[id]
            before = self._word(agent)
            self._seats.leave(agent.record)
            self._refresh(agent, before)

    def _refresh(self, agent: _Agent, before: str | None) -> None:
        record, rung = agent.record, self._seats.rung(agent.record)
        was = self.agents.get(record.id)
        agent.facts = facts = AgentFacts(
            id=record.id,
            name=record.name,
            phones=tuple(rung),
            groups=frozenset(record.groups),
            state=self._word(agent),
            why_not=self._why_not(agent),
            idle_since=record.idle_since,
            pbxes=self._pbxes(rung),
            last_offered=agent.last_offered,
            skills=record.skills,
            calls=self._calls(agent),
        )
        self.agents[record.id] = facts
        for group in (EVERYBODY, *record.groups):
            if group not in self.groups:
                self.groups[group] = Group()
            self.groups[group].put(facts)
        if facts.why_not is None and was is not None and was.why_not is not None:
            self._freed(record.id)
        if before is not None and before != facts.state:
            self._changed(self._view(agent))

    def _why_not(self, agent: _Agent) -> str | None:
        record = agent.record
        if record.wish != Wish.READY:
            return f"{record.wish}: {record.reason}" if record.reason else record.wish
        if agent.engagement not in (Engagement.NONE, Engagement.BUSY) or _has_all(agent):
            return state(Wish.READY, agent.engagement)
        rung = self._seats.rung(agent.record)
        if not rung:
            return "has no phone"
        if record.id in self._without_desktop:
            return "has no desktop open"
        if record.id in self._elsewhere:
            return "is held by another server"
        # One phone that has a call, at any Asterisk, takes its agent; of absent ones, one other is enough.
        words = {
            phone: tuple(self._devices.get(phone, {}).values()) for phone in self._seats.all_of(agent.record)
        }
        fine = TAKES_ONE_MORE if self._calls(agent) < record.concurrency else frozenset[str]()
        for phone, said in words.items():
            for word in said:
                if word not in ABSENT | fine and (why := DEVICE_WHY_NOT.get(word)) is not None:
                    return f"{phone} {why}"
        # A phone may be known to several Asterisks and registered at one: any of them that can ring it will do.
        if any(not words[phone] or not ABSENT.issuperset(words[phone]) for phone in rung):
            return None
        return f"{rung[0]} {DEVICE_WHY_NOT[words[rung[0]][0]]}"

    def _pbxes(self, phones: Iterable[str]) -> frozenset[str] | None:
        """The Asterisks that can ring one of these phones; None while nobody has said anything of one of them."""
        known: set[str] = set()
        for phone in phones:
            homes = self._homes.get(phone)
            if homes is None:
                return None
            said = self._devices.get(phone, {})
            known.update(pbx for pbx in homes if said.get(pbx) not in ABSENT)
        return frozenset(known)

    def _word(self, agent: _Agent) -> str:
        word = state(Wish(agent.record.wish), agent.engagement)
        if word == Wish.READY and any(self._in_use(phone) for phone in self._seats.all_of(agent.record)):
            return "busy"
        return word

    def _calls(self, agent: _Agent) -> int:
        """How many they have, as far as we know: a phone in use has at least one."""
        in_use = any(self._in_use(phone) for phone in self._seats.all_of(agent.record))
        return max(len(agent.leases), in_use)

    def _in_use(self, device: str) -> bool:
        return any(word in _IN_USE for word in self._devices.get(device, {}).values())

    def _view(self, agent: _Agent) -> AgentView:
        record = agent.record
        return AgentView(
            id=record.id,
            name=record.name,
            state=self._word(agent),
            reason=record.reason,
            since=max(record.wish_since, record.idle_since, agent.engaged_since),
            phones=tuple(record.phones),
            groups=tuple(record.groups),
            call=next(reversed(agent.leases), None),
            why_not=agent.facts.why_not,
            phone=self._seats.chosen(agent.record),
            skills=record.skills,
            concurrency=record.concurrency,
        )


def _may_have(agent: _Agent, call: str) -> bool:
    """Whether the agent may be offered this call, or is already."""
    if call in agent.leases:
        return agent.engagement_in(call) is Engagement.OFFERED
    return agent.facts.why_not is None


def _has_all(agent: _Agent) -> bool:
    """Whether they are held for as many calls as they may have at once."""
    return len(agent.leases) >= agent.record.concurrency


# Not RINGING: it outlasts an offer for a moment, and would show the agent as busy after each.
_IN_USE = frozenset({"INUSE", "BUSY", "RINGINUSE", "ONHOLD"})
