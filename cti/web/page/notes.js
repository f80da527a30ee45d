// Notes and dispositions while they are being typed: kept in this tab until the server has them, merged with what
// somebody else wrote meanwhile so that nobody's text is lost.

const PREFIX = "cordboard.draft.";
const WAIT = 700;
const AGAIN = 3000;
/** For so long an older answer of the server may still be on its way to us. */
const UNDERWAY = 10_000;

/** Three versions of a text into one: what both started from, mine, theirs. Lines that both changed stay, both. */
export function merge(base, mine, theirs) {
  if (mine === theirs || theirs === base) return mine;
  if (mine === base) return theirs;
  if (mine.startsWith(base) && theirs.startsWith(base) && base !== "") {
    return joined(theirs, mine.slice(base.length));
  }
  const known = new Set(theirs.split("\n"));
  const old = new Set(base.split("\n"));
  const own = mine.split("\n").filter((line) => line.trim() !== "" && !known.has(line) && !old.has(line));
  return own.length === 0 ? theirs : joined(theirs, own.join("\n"));
}

function joined(first, second) {
  const rest = second.replace(/^\n+/, "");
  return first === "" || first.endsWith("\n") || rest === "" ? first + rest : `${first}\n${rest}`;
}

/**
 * The drafts of this tab. `send(call, changes, etag)` writes to the server and answers `{call, etag}` or throws a
 * Problem; `changed()` is called whenever a draft's state is another.
 */
export class Drafts {
  constructor({ send, changed, storage = sessionStorage }) {
    this.send = send;
    this.changed = changed;
    this.storage = storage;
    this.drafts = new Map();
    this.last = new Map();
    for (const key of Object.keys(storage)) {
      if (!key.startsWith(PREFIX)) continue;
      try {
        const kept = JSON.parse(storage.getItem(key));
        this.drafts.set(key.slice(PREFIX.length), { ...kept, state: "waiting", timer: null });
      } catch {
        storage.removeItem(key);
      }
    }
  }

  /** A call as this tab has last written it, where what is here was told before that. */
  fresh(each) {
    const last = this.last.get(each.call.id);
    if (last === undefined || last.etag === each.etag || !last.past.has(each.etag) || Date.now() > last.until) return each;
    return { ...each, etag: last.etag, call: { ...each.call, ...last.written } };
  }

  /** What the fields of a call show: the draft where there is one, else what the server has. */
  of(call) {
    const draft = this.drafts.get(call.id);
    return {
      notes: draft?.notes ?? call.notes ?? "",
      disposition: draft?.disposition ?? call.disposition ?? null,
      state: draft?.state ?? "saved",
      theirs: draft?.theirs ?? false,
    };
  }

  /** The agent has typed or chosen something. */
  edit(each, changes, wait = WAIT) {
    const draft = this.drafts.get(each.call.id) ?? { base: each.call.notes ?? "", etag: each.etag };
    // Words that came in from a colleague are the agent's own to change as soon as they go on.
    Object.assign(draft, changes, { state: "waiting", theirs: false });
    this.drafts.set(each.call.id, draft);
    this.keep(each.call.id);
    this.schedule(each.call.id, wait);
    this.changed();
  }

  /** The server's version of a call is here (`fresh`): its tag is the one to write on, and its notes may be newer. */
  seen(each) {
    const draft = this.drafts.get(each.call.id);
    if (draft === undefined || draft.sending || each.etag === null || draft.etag === each.etag) return;
    this.take(draft, each.call, each.etag);
    this.keep(each.call.id);
    if (draft.state === "waiting") this.schedule(each.call.id, WAIT);
  }

  take(draft, call, etag) {
    const theirs = call.notes ?? "";
    if (draft.notes !== undefined && theirs !== draft.base) {
      const merged = merge(draft.base, draft.notes, theirs);
      draft.theirs = theirs !== draft.notes;
      draft.notes = merged;
    }
    draft.base = theirs;
    draft.etag = etag;
  }

  /** Whether there is anything that the server does not have. */
  get unsaved() {
    return this.drafts.size > 0;
  }

  /** Try now, as when the connection or the session is back. */
  flush() {
    return Promise.all([...this.drafts.keys()].map((id) => this.save(id)));
  }

  /** Try nothing until `flush`: nobody is logged in. */
  rest() {
    for (const draft of this.drafts.values()) clearTimeout(draft.timer);
  }

  schedule(id, wait) {
    const draft = this.drafts.get(id);
    clearTimeout(draft.timer);
    draft.timer = setTimeout(() => this.save(id), wait);
  }

  /** One request at a time for each call; whoever asks meanwhile waits for that, and for what was typed since. */
  save(id) {
    const draft = this.drafts.get(id);
    if (draft === undefined || !draft.etag) return Promise.resolve();
    clearTimeout(draft.timer);
    if (draft.sending) return draft.sending.then(() => this.save(id));
    draft.sending = this.request(id, draft);
    return draft.sending;
  }

  async request(id, draft) {
    const sent = {};
    if (draft.notes !== undefined) sent.notes = draft.notes;
    if (draft.disposition !== undefined) sent.disposition = draft.disposition;
    draft.state = "saving";
    this.changed();
    try {
      const answer = await this.send(id, sent, draft.etag);
      draft.sending = null;
      this.written(id, draft, sent, answer);
    } catch (problem) {
      draft.sending = null;
      this.refused(id, draft, problem);
    }
    this.changed();
  }

  written(id, draft, sent, { call, etag }) {
    const past = (this.last.get(id)?.past ?? new Set()).add(draft.etag);
    const { notes, disposition } = call;
    this.last.set(id, { etag, past, written: { notes, disposition }, until: Date.now() + UNDERWAY });
    draft.base = call.notes ?? "";
    draft.etag = etag;
    if (draft.notes === sent.notes && draft.disposition === sent.disposition) {
      this.forget(id);
      return;
    }
    draft.state = "waiting";
    this.keep(id);
    this.schedule(id, WAIT);
  }

  refused(id, draft, problem) {
    if (problem.status === 412 && problem.body.call) {
      this.take(draft, problem.body.call, problem.body.etag);
      draft.state = "waiting";
      this.keep(id);
      this.schedule(id, 0);
    } else if (problem.status === 0 || problem.status >= 500 || problem.status === 429 || problem.status === 401) {
      draft.state = "kept";
      this.schedule(id, (problem.retryAfter ?? 0) * 1000 || AGAIN);
    } else {
      // It will not be taken as it is: the agent has to see that, and keeps the text.
      draft.state = "refused";
      draft.problem = problem;
    }
  }

  keep(id) {
    const { notes, disposition, base, etag } = this.drafts.get(id);
    try {
      this.storage.setItem(PREFIX + id, JSON.stringify({ notes, disposition, base, etag }));
    } catch {
      // A full storage costs the copy for after a reload; the text itself stays in memory.
    }
  }

  forget(id) {
    clearTimeout(this.drafts.get(id)?.timer);
    this.drafts.delete(id);
    this.storage.removeItem(PREFIX + id);
  }

  forgetAll() {
    this.last.clear();
    for (const id of [...this.drafts.keys()]) this.forget(id);
  }
}
