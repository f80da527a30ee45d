// What the page knows, and what each message of the server makes of it. Pure: nothing is fetched or drawn here.

/** Events after which the desk has to be read again. */
const CONCERNS = /^(call|card|agent|callback)\./;

export function nothingKnown() {
  return { desk: null, offers: {}, gone: {} };
}

/** The desk as the server told it; offers that it does not know yet stay, and what went since does not come back. */
export function takeDesk(state, desk) {
  if (state.desk !== null && desk.seq < state.desk.seq) return state;
  const later = ([, { seq }]) => seq > desk.seq;
  return {
    ...state,
    desk,
    offers: Object.fromEntries(Object.entries(state.offers).filter(later)),
    gone: Object.fromEntries(Object.entries(state.gone).filter(later)),
  };
}

/** What an event changes at once; `reread` says whether the desk has to be asked for the rest. */
export function takeEvent(state, event) {
  const reread = CONCERNS.test(event.type);
  const { [event.call?.id]: _offered, ...others } = state.offers;
  const { [event.call?.id]: _gone, ...stillGone } = state.gone;
  switch (event.type) {
    case "card.offered":
      return { state: { ...state, offers: { ...others, [event.call.id]: offer(event) }, gone: stillGone }, reread };
    case "card.updated": {
      const known = state.offers[event.call.id];
      if (known === undefined) return { state, reread };
      const fresh = { ...known, card: event.card, party: event.card.parties?.length === 1 ? event.card.parties[0] : known.party };
      return { state: { ...state, offers: { ...state.offers, [event.call.id]: fresh } }, reread };
    }
    case "card.withdrawn":
      return { state: { ...state, offers: others, gone: { ...state.gone, [event.call.id]: { seq: event.seq } } }, reread };
    case "agent.state":
      if (state.desk === null || event.agent !== state.desk.agent.id) return { state, reread: false };
      return { state: { ...state, desk: { ...state.desk, agent: changed(state.desk.agent, event) } }, reread };
    default:
      return { state, reread };
  }
}

function changed(agent, event) {
  return { ...agent, state: event.state, reason: event.reason ?? null, since: event.at };
}

function offer(event) {
  const card = event.card;
  const parties = card.parties ?? [];
  return {
    seq: event.seq,
    call: { outcome: null, answered: null, ended: null, started: event.at, notes: null, disposition: null, ...event.call },
    etag: null,
    status: "offered",
    can: [],
    attempt: event.attempt ?? card.attempt ?? null,
    card,
    // Of several, the company's policy may have settled which it is.
    party: parties.length === 1 ? parties[0] : parties.find((party) => isParty(party, event.party)) ?? null,
    choose: parties.length > 1 && !event.party,
    dispositions: [],
    disposition_required: false,
    open: card.open ?? "never",
    wrap_up_until: null,
    quick_create: false,
  };
}

/** The calls to show, newest first: the desk's, and what was offered since. */
export function callsOf(state) {
  const known = (state.desk?.calls ?? []).map(withWholeParty);
  // A call that was over for this agent, and has come back as an offer, is the offer.
  const living = new Set(known.filter((each) => each.status !== "ended").map((each) => each.call.id));
  const fresh = Object.values(state.offers).filter((each) => !living.has(each.call.id));
  const ids = new Set(fresh.map((each) => each.call.id));
  return [...fresh, ...known.filter((each) => !ids.has(each.call.id))].filter(
    (each) => !(each.call.id in state.gone && (each.status === "offered" || each.status === "ringing")),
  );
}

/** The party as the card has it, with all that the CRM says; the log keeps less. */
export function withWholeParty(each) {
  const whole = each.party && each.card?.parties?.find((party) => isParty(party, each.party));
  return whole ? { ...each, party: { ...whole, ...each.party } } : each;
}

export function isParty(one, other) {
  return Boolean(one && other) && one.adapter === other.adapter && one.type === other.type && one.id === other.id;
}

/** The call that an agent would look at now: what rings, else who is talked to, else what is to be written up. */
export function foremost(calls) {
  const order = ["offered", "ringing", "talking", "consulting", "dialling", "held", "wrap_up", "ended"];
  return [...calls].sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status))[0] ?? null;
}

export function isIncoming(each) {
  return each.status === "offered" || each.status === "ringing";
}

/** The name of the other side, or its number, or null where nobody knows either. */
export function otherSide(call, card, party) {
  const outward = call.direction === "outbound";
  const address = outward ? call.to : call.from;
  const display = (outward ? card?.display?.to ?? call.display?.to : card?.display?.from ?? call.display?.from) ?? address;
  return { name: party?.name || party?.company || null, number: display, address };
}
