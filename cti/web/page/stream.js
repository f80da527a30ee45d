// The line to the server: one tab holds the event stream and the desk's truth, and tells the others of both.

import { ask, Problem } from "./api.js";
import { eachSecond } from "./clock.js";

const LOCK = "cordboard.leader";
const CHANNEL = "cordboard";
/** The server says something every 15 s; without a word for so long, the line is dead. */
const SILENCE = 35_000;
/** Clocks tick each second; one that has not for so long stood still, and so did everything else here. */
const STOOD_STILL = 3_000;
/** The server's longest pause between two words, and a little more: after sleep, who missed one is not waited for. */
const BREATH = 17_000;
/** For so long after waking, what fails is tried again at once. */
const AWAKE = 3_000;
const REREAD = 60;
const LONGEST_WAIT = 10_000;
/** A desk is here in milliseconds. After sleep a connection may be dead without knowing, and is soon tried anew. */
const PATIENCE = 5000;
const HASTE = 1000;
/** So many connections a browser keeps to one server (of HTTP/1.1), and so soon the next one is tried after sleep. */
const CONNECTIONS = 6;
const NEXT_TRY = 200;

/** Bytes of an event stream become events (WHATWG HTML, 9.2.6); `feed` answers with those that are complete. */
export class EventParser {
  constructor() {
    this.text = "";
  }

  feed(text) {
    this.text += text;
    const blocks = this.text.split(/\r?\n\r?\n/);
    this.text = blocks.pop();
    return blocks.map(parseBlock).filter((event) => event !== null);
  }
}

function parseBlock(block) {
  const event = { id: null, type: "message", data: "", retry: null };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon < 1) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    const name = line.slice(0, colon);
    if (name === "data") event.data += event.data === "" ? value : `\n${value}`;
    else if (name === "event") event.type = value;
    else if (name === "id") event.id = Number(value);
    else if (name === "retry") event.retry = Number(value);
  }
  return event.data === "" && event.retry === null ? null : event;
}

/** Like `ask`; but while there is no answer, asks again by another connection, as all that are left may be dead. */
function askInHaste(path) {
  return new Promise((resolve, reject) => {
    let open = CONNECTIONS;
    let next;
    const settle = (how, what) => {
      clearTimeout(next);
      open = 0;
      how(what);
    };
    const attempt = (further) => {
      if (further > 0) next = setTimeout(() => attempt(further - 1), NEXT_TRY);
      ask("GET", path, { patience: HASTE }).then(
        (answer) => settle(resolve, answer),
        // Who has answered need not be asked again; who could not be reached is, unless that was the last.
        (problem) => (problem.status !== 0 || (open -= 1) === 0) && settle(reject, problem),
      );
    };
    attempt(CONNECTIONS - 1);
  });
}

/**
 * `onDesk(desk)`, `onEvent(event)`, `onLine(state)` with `live`, `connecting` or `offline`; `onWord(message)` is what
 * another tab says beside that. `leads` is true in the one tab that may notify, make a sound or open windows.
 */
export class Line {
  constructor({ onDesk, onEvent, onLine, onWord }) {
    this.onDesk = onDesk;
    this.onEvent = onEvent;
    this.onLine = onLine;
    this.onWord = onWord;
    this.leads = false;
    this.state = "connecting";
    this.desk = null;
    this.seq = 0;
    this.running = false;
    this.failures = 0;
    this.retry = 1000;
    this.heard = 0;
    this.woken = 0;
    this.ticked = Date.now();
    this.channel = new BroadcastChannel(CHANNEL);
    this.channel.onmessage = ({ data }) => this.#told(data);
    eachSecond(() => this.#tick());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.wake());
    window.addEventListener("online", () => this.wake());
    window.addEventListener("offline", () => this.#set("offline"));
    document.addEventListener("resume", () => this.wake());
    window.addEventListener("pageshow", ({ persisted }) => persisted && this.wake());
  }

  /** Begin, once somebody has logged in; also after a new log-in. */
  start() {
    if (this.running) {
      this.wake();
      return;
    }
    this.running = true;
    this.say({ kind: "hello" });
    if (!navigator.locks) {
      this.#lead();
      return;
    }
    this.resign = new AbortController();
    navigator.locks
      .request(LOCK, { signal: this.resign.signal }, () => this.running && this.#lead())
      .catch((error) => {
        if (error.name !== "AbortError") throw error;
      });
  }

  /** End: somebody has logged out. */
  stop() {
    this.running = false;
    this.leads = false;
    this.resign?.abort();
    this.reading?.abort();
    this.release?.();
    clearTimeout(this.timer);
    clearTimeout(this.rereading);
    this.desk = null;
    this.seq = 0;
  }

  /** Tell the other tabs. */
  say(message) {
    this.channel.postMessage(message);
  }

  /** Read the desk again soon: several reasons at once cost one request. */
  reread() {
    if (!this.leads) {
      this.say({ kind: "reread" });
      return;
    }
    clearTimeout(this.rereading);
    this.rereading = setTimeout(() => this.#read(), REREAD);
  }

  /** The machine may have slept, or the network changed: look now, and do not trust an old line. */
  wake() {
    if (!this.running) return;
    if (!this.leads) {
      this.say({ kind: "reread" });
      return;
    }
    this.woken = Date.now();
    if (Date.now() - this.heard > BREATH || this.state !== "live") this.#connect();
    else this.#read();
  }

  #lead() {
    this.leads = true;
    this.onWord({ kind: "leads" });
    this.#connect();
    return new Promise((resolve) => {
      this.release = resolve;
    });
  }

  async #read() {
    try {
      const { body } = await (this.#isAwake() ? askInHaste("desk") : ask("GET", "desk", { patience: PATIENCE }));
      this.desk = body;
      this.onDesk(body);
      this.say({ kind: "desk", desk: body });
      return body;
    } catch (problem) {
      if (problem.status === 401) return null;
      const refused = problem.status >= 400 && problem.status < 500 && problem.status !== 429;
      if (refused && this.failures === 0) this.onWord({ kind: "refused", problem });
      this.#lost(problem.retryAfter);
      return null;
    }
  }

  /** The desk first, then what happened since: so nothing is missed, and nothing old is shown. */
  async #connect() {
    clearTimeout(this.timer);
    this.reading?.abort();
    const reading = new AbortController();
    this.reading = reading;
    const desk = await this.#read();
    if (desk === null || reading.signal.aborted || !this.running) return;
    this.seq = Math.max(this.seq, desk.seq);
    try {
      const answer = await fetch(`/api/v1/events?after=${desk.seq}`, {
        headers: { Accept: "text/event-stream" },
        credentials: "same-origin",
        cache: "no-store",
        signal: reading.signal,
      });
      if (!answer.ok) throw new Problem(answer.status, {}, Number(answer.headers.get("Retry-After")) || null);
      this.failures = 0;
      this.#heard();
      this.#set("live");
      await this.#follow(answer.body, reading.signal);
    } catch (problem) {
      if (reading.signal.aborted) return;
      if (problem.status === 401) await this.#read();
      if (!reading.signal.aborted) this.#lost(problem.retryAfter);
      return;
    }
    if (!reading.signal.aborted) this.#lost();
  }

  async #follow(body, signal) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      this.#heard();
      for (const event of parser.feed(value)) this.#take(event);
    }
  }

  #take({ id, type, data, retry }) {
    if (retry) this.retry = retry;
    if (data === "") return;
    if (type === "reset") {
      this.#read();
      return;
    }
    if (id !== null && id <= this.seq) return;
    this.seq = id ?? this.seq;
    const event = JSON.parse(data);
    this.onEvent(event);
    this.say({ kind: "event", event });
  }

  #lost(retryAfter = null) {
    if (!this.running || !this.leads) return;
    this.reading?.abort();
    this.#set("offline");
    this.failures += 1;
    // Spread over the time that the server names: after its restart everybody comes back at once.
    const longest = Math.max(Math.min(LONGEST_WAIT, 250 * 2 ** this.failures), (retryAfter ?? 0) * 1000);
    const wait = this.failures === 1 ? Math.random() * this.retry : longest * (0.5 + Math.random() / 2);
    clearTimeout(this.timer);
    // Who has slept comes back alone, and at once.
    this.timer = setTimeout(() => this.#connect(), this.#slept || this.#isAwake() ? 100 : wait);
  }

  /** Whether we have just come out of sleep. Clocks of hidden pages tick once a minute, but hear the line meanwhile. */
  get #slept() {
    const now = Date.now();
    return now - this.ticked > STOOD_STILL && (document.visibilityState === "visible" || now - this.heard > BREATH);
  }

  #tick() {
    const slept = this.#slept;
    this.ticked = Date.now();
    if (!this.running) return;
    if (slept) this.wake();
    else if (this.leads && this.state === "live" && Date.now() - this.heard > SILENCE) this.#connect();
  }

  #isAwake() {
    return Date.now() - this.woken < AWAKE;
  }

  #heard() {
    this.heard = Date.now();
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.onLine(state);
    if (this.leads) this.say({ kind: "line", state });
  }

  #told(message) {
    if (message.kind === "signedOut" || message.kind === "signedIn") this.onWord(message);
    else if (!this.running) return;
    else if (this.leads && message.kind === "hello") {
      if (this.desk !== null) this.say({ kind: "desk", desk: this.desk });
      this.say({ kind: "line", state: this.state });
    } else if (this.leads && message.kind === "reread") this.wake();
    else if (!this.leads && message.kind === "desk") this.onDesk(message.desk);
    else if (!this.leads && message.kind === "event") this.onEvent(message.event);
    else if (!this.leads && message.kind === "line") {
      this.state = message.state;
      this.onLine(message.state);
    } else this.onWord(message);
  }
}
