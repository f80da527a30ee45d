// The agent desktop: what the page knows is in `app`, and every part of it is drawn anew, by `view.js`, when that changes.

import { notify, quiet, ring, takeBack } from "./alerts.js";
import { ask, newKey, onExpired, Problem, setCsrf } from "./api.js";
import { bar, choosesPhone, phones, stateWord } from "./bar.js";
import { brief, callView, extend, finish, operate } from "./call.js";
import { openCrm } from "./card.js";
import { paintClocks, setServerTime, since } from "./clock.js";
import { beginDialog, dialog } from "./dialogs.js";
import { entrance, entranceAgain } from "./entrance.js";
import { icon } from "./icons.js";
import { isTyping, listen } from "./keys.js";
import { listView, stale } from "./lists.js";
import { Drafts } from "./notes.js";
import { forgetSearch, searchView } from "./search.js";
import { settingsView } from "./settings.js";
import { callsOf, foremost, isIncoming, nothingKnown, otherSide, takeDesk, takeEvent, withWholeParty } from "./state.js";
import { Line } from "./stream.js";
import { h, show } from "./view.js";
import { forgetWhy } from "./why.js";
import { has, LANGUAGES, preferred, speak, spoken, t } from "./words.js";
import { applyTheme, setWish, wish } from "./wishes.js";

const OWNER = "cordboard.owner";
const LISTS = ["missed", "unwritten", "recent"];

const app = {
  session: null,
  used: false,
  warned: false,
  state: nothingKnown(),
  lineState: "connecting",
  expired: false,
  route: { name: "desk", call: null },
  menu: null,
  dialog: null,
  dialling: false,
  blocked: null,
  choosing: null,
  pastCall: null,
  /** Call → the operation that is under way. */
  atWork: new Map(),
  painted: new Set(),
  unanswered: new Map(),
  names: new Map(),
  ask,

  get desk() {
    return app.state.desk;
  },

  get calls() {
    return callsOf(app.state).map((each) => drafts.fresh(each));
  },

  /** The call on the screen: the one in the address, or the one that an agent would look at now. */
  get current() {
    if (app.route.name === "call") {
      const found = app.calls.find((each) => each.call.id === app.route.call);
      return found ?? (app.pastCall?.call.id === app.route.call ? drafts.fresh(app.pastCall) : null);
    }
    return app.route.name === "desk" ? foremost(app.calls) : null;
  },

  render,
  explain,

  /** Do something that may fail; true if it did not. What failed is said. */
  async run(work) {
    try {
      await work();
      return true;
    } catch (problem) {
      if (!("status" in problem)) throw problem;
      if (problem.status !== 401) app.toast(explain(problem));
      return false;
    } finally {
      render();
    }
  },

  reread() {
    line.reread();
    stale(app);
  },

  /** POST so that it is done once: sent again because no answer came, the same bears the same key. */
  async askOnce(path, body) {
    const what = `${path} ${JSON.stringify(body)}`;
    const key = app.unanswered.get(what) ?? newKey();
    app.unanswered.set(what, key);
    try {
      const answer = await ask("POST", path, { body, key });
      app.unanswered.delete(what);
      return answer;
    } catch (problem) {
      if (problem.status) app.unanswered.delete(what);
      throw problem;
    }
  },

  say(words) {
    document.getElementById("said").textContent = words;
  },

  toast(words) {
    const note = document.createElement("p");
    note.className = "toast";
    note.textContent = words;
    document.getElementById("toasts").append(note);
    setTimeout(() => note.remove(), 8000);
  },

  /** Go there, unless whoever asked for something has gone elsewhere while it was done; `from` is where they were. */
  goFrom(from, hash) {
    if (location.hash === from) app.go(hash);
  },

  go(hash) {
    if (location.hash === hash) render();
    else location.hash = hash;
  },

  toggleMenu(name) {
    app.menu = app.menu === name ? null : name;
    render();
  },

  focusFirst(menu) {
    queueMicrotask(() => menu.querySelector("button, a")?.focus());
  },

  asModal(element) {
    queueMicrotask(() => element.isConnected && element.showModal());
  },

  openDialog(name, given = {}) {
    app.menu = null;
    app.before = document.activeElement;
    beginDialog();
    app.dialog = { name, ...given };
    render();
  },

  closeDialog() {
    app.dialog = null;
    render();
    const before = app.before?.isConnected ? app.before : document.getElementById("main");
    before?.focus();
  },

  async setState(change) {
    app.toggleMenu(null);
    document.getElementById("state")?.focus();
    await app.run(async () => {
      const { body } = await ask("PATCH", `agents/${encodeURIComponent(app.desk.agent.id)}`, { body: change });
      app.state = { ...app.state, desk: { ...app.desk, agent: { ...app.desk.agent, ...body } } };
      app.say(stateWord(app.desk.agent, app.desk.pauses));
      line.reread();
    });
  },

  /** Where the agent sits; with a `state`, logged in there. */
  async setPhone(phone, state) {
    await app.run(async () => {
      const change = state === undefined ? { phone } : { phone, state };
      const { body } = await ask("PATCH", `agents/${encodeURIComponent(app.desk.agent.id)}`, { body: change });
      app.state = { ...app.state, desk: { ...app.desk, agent: { ...app.desk.agent, ...body } } };
    });
    line.reread();
  },

  /** MakeCall; true once the agent's phone rings. */
  async dial(to) {
    if (app.dialling) return false;
    app.dialling = true;
    render();
    const from = location.hash;
    const done = await app.run(async () => {
      await ask("POST", "calls", { body: { to }, key: newKey(), patience: 30_000 });
      app.say(t("dial.ringing"));
      app.goFrom(from, "#/");
      line.reread();
    });
    app.dialling = false;
    render();
    return done;
  },

  /** Say who it is that a call is with; true if that was taken. */
  choose(each, party) {
    return app.run(async () => {
      const { adapter, type, id } = party;
      await ask("PATCH", `calls/${encodeURIComponent(each.call.id)}`, { body: { party: { adapter, type, id } }, etag: each.etag });
      app.choosing = null;
      line.reread();
    });
  },

  async setLanguage(tag) {
    await speak(tag);
    setWish("language", tag);
    render();
    if (app.session !== null) await app.run(() => ask("PATCH", "session", { body: { language: tag } }));
  },

  /** A new session in place of the old one, as after a change of the password. */
  renew(session) {
    app.session = session;
    setCsrf(session.csrf);
    line.say({ kind: "signedIn", session });
  },

  /** What people call an agent; the id until that is known. */
  nameOf(agent) {
    if (agent === app.desk?.agent.id) return app.desk.agent.name;
    return app.names.get(agent) ?? agent;
  },

  /** What people call a service. */
  titleOf(service) {
    return app.desk?.services?.[service] ?? service;
  },

  /** Somebody has logged in, here or, if `elsewhere`, in another tab. */
  async enter(session, elsewhere = false) {
    if (remembered() !== session.user.name) {
      // The words of another person are not this one's to send.
      drafts.forgetAll();
      remember(session.user.name);
      if (app.used) {
        // Lists, histories and names of the person before are in the memory of every part of the page.
        location.reload();
        return;
      }
    }
    app.used = true;
    app.session = session;
    app.expired = false;
    setCsrf(session.csrf);
    if (session.user.language && session.user.language in LANGUAGES) await speak(session.user.language);
    if (!elsewhere) line.say({ kind: "signedIn", session });
    if (session.user.agent !== null) {
      line.start();
      learnNames();
    }
    render();
    drafts.flush();
    askedToDial();
  },

  async leave() {
    await drafts.flush();
    if (drafts.unsaved && !app.warned) {
      app.warned = true;
      app.toast(t("leave.unsaved"));
      return;
    }
    if (!(await app.run(() => ask("DELETE", "session")))) return;
    line.say({ kind: "signedOut" });
    left();
  },
};

const drafts = new Drafts({
  send: async (id, changes, etag) => {
    // Not between the new session's cookie and its token: the server would take us for another site.
    if (app.expired) throw new Problem(401);
    const { body } = await ask("PATCH", `calls/${encodeURIComponent(id)}`, { body: changes, etag });
    return body;
  },
  changed: render,
});
app.drafts = drafts;

const line = new Line({
  onDesk(desk) {
    setServerTime(desk.now);
    const before = app.desk?.calls ?? [];
    app.state = takeDesk(app.state, desk);
    for (const each of app.calls) drafts.seen(each);
    for (const each of desk.calls) followUp(each, before.find((old) => old.call.id === each.call.id));
    hush();
    render();
    if (app.route.name === "call" && app.current === null) lookUp(app.route.call);
  },
  onEvent(event) {
    const { state, reread } = takeEvent(app.state, event);
    app.state = state;
    if (event.type === "card.offered") offered(event);
    if (event.type === "card.withdrawn") withdrawn(event);
    if (reread && line.leads) line.reread();
    if (event.type.startsWith("callback.") || event.type === "call.ended" || event.type === "call.updated") stale(app);
    hush();
    render();
  },
  onLine(state) {
    const before = app.lineState;
    app.lineState = state;
    if (state === "live" && before === "offline") {
      app.say(t("line.back"));
      drafts.flush();
      stale(app);
    }
    render();
  },
  onWord(message) {
    if (message.kind === "signedOut") left();
    else if (message.kind === "signedIn") app.enter(message.session, true);
    else if (message.kind === "refused") app.toast(explain(message.problem));
  },
});

/** Whose drafts this tab keeps. */
function remembered() {
  return sessionStorage.getItem(OWNER);
}

function remember(name) {
  sessionStorage.setItem(OWNER, name);
}

/** A card has come: on the screen at once, and then the server is told that it is there (`acknowledge`). */
function offered(event) {
  const each = app.calls.find((one) => one.call.id === event.call.id);
  const side = otherSide(each.call, each.card, each.party);
  const who = [side.name, side.number].filter(Boolean).join(", ") || t("card.no-number");
  if (app.route.name !== "desk" && !isTyping(document.activeElement) && app.current?.status !== "talking") {
    history.pushState(null, "", "#/");
    route();
  }
  render();
  document.getElementById("called").textContent = t("card.incoming", { who, service: app.titleOf(each.call.service ?? "") });
  if (line.leads) {
    notify(each.call.id, who, t("card.incoming", { who, service: app.titleOf(each.call.service ?? "") }));
    ring();
    if (each.open === "ring") openCrm(app, each);
  }
}

function withdrawn(event) {
  takeBack(event.call.id);
  document.getElementById("called").textContent = "";
  if (app.current === null && app.route.call === event.call.id) app.go("#/");
}

/** What the leader does as a call goes on. */
function followUp(each, before) {
  if (!line.leads || each.status === before?.status) return;
  if (isIncoming(each) && each.open === "ring") openCrm(app, each);
  if (each.status === "talking" && (each.open === "answer" || each.open === "ring")) openCrm(app, each);
  if (!isIncoming(each)) takeBack(each.call.id);
}

function hush() {
  if (!app.calls.some(isIncoming)) quiet();
}

/** Tell the server of each card that is on the screen now, once: two frames on, what was drawn last is there. */
function acknowledge() {
  for (const { call, card, attempt } of app.calls.filter(isIncoming)) {
    const shown = `${call.id} ${attempt}`;
    if (card === null || attempt === null || app.painted.has(shown)) continue;
    app.painted.add(shown);
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        // It may be another's by now: then there is nobody left to tell.
        ask("POST", `calls/${encodeURIComponent(call.id)}/card`, { body: { attempt } }).catch(() => {});
      }),
    );
  }
}

async function learnNames() {
  try {
    const { body } = await ask("GET", "colleagues");
    app.names = new Map(body.colleagues.map((each) => [each.id, each.name]));
    render();
  } catch {
    // Ids say it too, until the next log-in.
  }
}

function left() {
  // What could not be saved waits for its own author; whoever else logs in makes it go (`enter`).
  drafts.rest();
  line.stop();
  quiet();
  forgetSearch();
  forgetWhy();
  Object.assign(app, { session: null, state: nothingKnown(), expired: false, warned: false, menu: null, dialog: null, pastCall: null });
  setCsrf(null);
  render();
}

onExpired(() => {
  if (app.session === null || app.expired) return;
  app.expired = true;
  app.before = document.activeElement;
  render();
});

/** A problem in the words of the reader; the server's own words, in English, where there are no better. */
function explain(problem) {
  const kind = `problem.${problem.kind}`;
  const status = `problem.${problem.status}`;
  if (has(kind)) {
    return spoken() === "en" && problem.message && problem.kind === "not-now" ? problem.message : t(kind, { seconds: problem.retryAfter ?? 1 });
  }
  if (spoken() !== "en" && has(status)) return t(status, { seconds: problem.retryAfter ?? 1 });
  return problem.message || t("problem.other");
}

// Drawing.

function render() {
  const root = document.getElementById("app");
  if (app.session === null) {
    document.title = "Cordboard";
    show(root, entrance(app));
    show(document.getElementById("dialogs"));
    return;
  }
  document.title = title();
  show(
    root,
    h("a", { class: "skip", href: "#main", onclick: toMain }, t("nav.skip")),
    bar(app),
    app.session.user.agent === null ? noDesk() : h("div", { class: "frame" }, rail(), page()),
  );
  show(document.getElementById("dialogs"), app.expired ? entranceAgain(app) : app.dialog && dialog(app));
  paintClocks();
  acknowledge();
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function title() {
  const incoming = app.calls.find(isIncoming);
  if (incoming === undefined) return "Cordboard";
  const side = otherSide(incoming.call, incoming.card, incoming.party);
  return `☎ ${side.name ?? side.number ?? t("card.no-number")} – Cordboard`;
}

function rail() {
  const link = (name, hash, count = 0) =>
    h(
      "a",
      {
        class: "rail-link",
        href: hash,
        key: name,
        "data-test": `nav-${name}`,
        "aria-current": app.route.name === name ? "page" : null,
      },
      icon(name),
      h("span", { class: "rail-word" }, t(`nav.${name}`)),
      count > 0 && h("span", { class: "count" }, h("span", { "aria-hidden": "true" }, String(count)), h("span", { class: "unseen" }, t("nav.count", { count }))),
    );
  const current = app.current?.call.id;
  return h(
    "nav",
    { class: "rail", "aria-label": t("nav.title") },
    link("desk", "#/"),
    app.calls.length > 0 && h("ul", { class: "rail-calls", "aria-label": t("nav.calls") }, app.calls.map((each) => brief(app, each, each.call.id === current))),
    link("missed", "#/missed", app.desk?.missed.count),
    link("unwritten", "#/unwritten", app.desk?.unwritten.count),
    link("recent", "#/recent"),
    link("search", "#/search"),
    link("settings", "#/settings"),
  );
}

function page() {
  return h("main", { id: "main", class: "main", tabindex: "-1" }, banner(), setAside(), content());
}

/** A call that comes while another is on the screen. */
function banner() {
  const coming = app.calls.find((each) => isIncoming(each) && each.call.id !== app.current?.call.id);
  if (coming === undefined) return null;
  const side = otherSide(coming.call, coming.card, coming.party);
  return h(
    "a",
    { class: "banner", href: `#/calls/${encodeURIComponent(coming.call.id)}`, "data-test": "incoming", "data-call": coming.call.id },
    icon("answer"),
    h("span", { class: "grow" }, t("card.incoming", { who: [side.name, side.number].filter(Boolean).join(", ") || t("card.no-number"), service: app.titleOf(coming.call.service ?? "") })),
    h("span", { class: "more" }, t("card.show")),
  );
}

/** Who is set aside may not have been there to see it happen: it stands on every page until they are back. */
function setAside() {
  if (app.desk === null || !isSetAside(app.desk.agent)) return null;
  return h(
    "div",
    { class: "banner", role: "status", "data-test": "set-aside" },
    icon("warning"),
    h("span", { class: "grow" }, t("state.set-aside")),
    h("button", { class: "button go", type: "button", "data-test": "come-back", onclick: () => app.setState({ state: "ready" }) }, t("nothing.get-ready")),
  );
}

function isSetAside(agent) {
  return agent.state === "paused" && agent.reason === "no_answer";
}

function content() {
  if (LISTS.includes(app.route.name)) return app.desk ? listView(app, app.route.name) : loading();
  if (app.route.name === "settings") return settingsView(app);
  if (app.desk === null) return loading();
  if (app.route.name === "search") return searchView(app);
  const current = app.current;
  if (current !== null) return callView(app, current);
  return app.route.name === "call" ? h("p", { class: "muted" }, t("call.unknown")) : nothing();
}

function loading() {
  return h("p", { class: "muted", role: "status" }, t("list.loading"));
}

function nothing() {
  const { agent, missed, unwritten } = app.desk;
  return h(
    "div",
    { class: "nothing", key: "nothing", "data-test": "nothing" },
    h("img", { src: "/static/icon.svg", alt: "", width: "56", height: "56" }),
    h("h1", {}, t(agent.state === "ready" ? "nothing.ready" : "nothing.title")),
    h("p", { class: "muted" }, stateWord(agent, app.desk.pauses), " · ", since(agent.since)),
    agent.state !== "ready" &&
      !isSetAside(agent) &&
      h("button", { class: "button go", type: "button", "data-test": "get-ready", onclick: () => app.setState({ state: "ready" }) }, t("nothing.get-ready")),
    agent.phones.length !== 1 && !agent.phone && choosesPhone(app) && h("div", { class: "panel" }, phones(app, agent)),
    h(
      "p",
      { class: "nothing-links" },
      missed.count > 0 && h("a", { href: "#/missed" }, t("nothing.missed", { count: missed.count })),
      unwritten.count > 0 && h("a", { href: "#/unwritten" }, t("nothing.unwritten", { count: unwritten.count })),
    ),
    wish("keys") && h("p", { class: "muted hint" }, h("kbd", {}, "?"), " ", t("nothing.keys")),
  );
}

function noDesk() {
  return h(
    "main",
    { id: "main", class: "main", tabindex: "-1" },
    app.route.name === "settings"
      ? settingsView(app)
      : h(
          "div",
          { class: "nothing", "data-test": "no-desk" },
          h("h1", {}, t("nodesk.title")),
          h("p", { class: "muted" }, t("nodesk.text", { role: t(`role.${app.session.user.role}`) })),
          h("p", {}, h("a", { class: "button", href: "/docs" }, t("nodesk.docs"))),
        ),
  );
}

// Where we are: the address behind the #, so that the browser's back button works.

function route() {
  const [, first = "", second = ""] = location.hash.split("?")[0].split("/");
  let call = null;
  try {
    call = decodeURIComponent(second);
  } catch {
    // An address that nobody here has written.
  }
  const before = app.route;
  if (first === "calls" && call) app.route = { name: "call", call };
  else if (LISTS.includes(first) || first === "settings" || first === "search") app.route = { name: first, call: null };
  else app.route = { name: "desk", call: null };
  if (app.route.name !== before.name || app.route.call !== before.call) app.menu = null;
  if (app.route.name === "call") lookUp(app.route.call);
}

/** A call of the past, from a list or a link: to read it, and to write it up. */
async function lookUp(id) {
  if (app.session?.user.agent == null || app.calls.some((each) => each.call.id === id)) return;
  await app.run(async () => {
    const { body } = await ask("GET", `desk/calls/${encodeURIComponent(id)}`);
    app.pastCall = withWholeParty(body);
    drafts.seen(body);
  });
}

window.addEventListener("hashchange", () => {
  const focused = document.activeElement;
  route();
  render();
  // What was in focus may be gone with the page that it was on.
  if (!focused?.isConnected || focused === document.body || focused.closest(".rail, .main")) {
    document.getElementById("main")?.focus({ preventScroll: true });
  }
});

document.addEventListener("pointerdown", (event) => {
  if (app.menu !== null && event.target.closest(".menu-place") === null) app.toggleMenu(null);
});

window.addEventListener("beforeunload", (event) => {
  if (drafts.unsaved && app.session !== null) event.preventDefault();
});

/** `/dial?number=…` opens the desk, which asks. Where nobody is logged in it asks after that. */
function askedToDial() {
  if (app.toDial === null || app.session === null || app.session.user.agent === null) return;
  const number = app.toDial;
  app.toDial = null;
  app.openDialog("dial", { number });
}

/** What an address from elsewhere asks for: `/?call=…`, as phones that were rung have it, or `/dial?number=…`. */
function fromAddress() {
  const call = new URLSearchParams(location.search).get("call");
  if (location.pathname === "/" && call !== null) {
    history.replaceState(null, "", call === "" ? "/" : `/#/calls/${encodeURIComponent(call)}`);
  }
  if (location.pathname !== "/dial") return null;
  const given = new URLSearchParams(location.search).get("number") ?? "";
  history.replaceState(null, "", "/#/");
  const number = given.replace(/^(web\+)?(tel|callto|sip|sips):(\/\/)?/i, "").split(/[;?@]/)[0].trim();
  return number === "" ? null : number.slice(0, 100);
}

// Any link of the page that dials asks us instead of the system.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='tel:'], a[href^='callto:']");
  if (!link || app.desk === null) return;
  event.preventDefault();
  app.dial(link.getAttribute("href").replace(/^\w+:(\/\/)?/, ""));
});

listen((name) => {
  if (app.session === null || app.session.user.agent === null || app.expired) return name === "keys" && app.session !== null && (app.openDialog("keys"), true);
  const focus = (id) => {
    const element = document.getElementById(id);
    element?.focus();
    return element !== null;
  };
  switch (name) {
    case "dial":
      return focus("dial");
    case "state":
      app.toggleMenu("state");
      return true;
    case "keys":
      app.openDialog("keys");
      return true;
    case "desk":
    case "missed":
    case "unwritten":
    case "recent":
    case "settings":
    case "search":
      app.go(name === "desk" ? "#/" : `#/${name}`);
      // Drawn by then: the address changes first.
      if (name === "search") setTimeout(() => focus("search"));
      return true;
    case "notes":
      return focus("notes");
    case "disposition": {
      const first = document.querySelector("#disposition input:checked, #disposition input");
      first?.focus();
      return first !== null;
    }
    case "open": {
      const link = document.getElementById("crm-link");
      link?.click();
      return link !== null;
    }
    default:
      return toCall(name);
  }
});

/** A key for the call on the screen, or, for answering, for the one that rings. */
function toCall(name) {
  const rings = app.calls.find((each) => isIncoming(each) && each.can.includes("answer"));
  const each = name === "answer" ? (rings ?? app.current) : app.current;
  if (!each) return false;
  if (name === "extend" && each.can.includes("extend")) extend(app, each);
  else if (name === "finish" && each.can.includes("finish")) finish(app, each);
  else {
    const held = each.status === "held" || each.can.includes("retrieve");
    const operation = name === "hold" && held ? "retrieve" : name === "transfer" && each.can.includes("deflect") ? "deflect" : name;
    // While an operation is under way, what can be done after it is not known yet.
    if (!each.can.includes(operation) && !app.atWork.has(each.call.id)) return false;
    operate(app, each, operation);
  }
  return true;
}

async function begin() {
  applyTheme();
  app.toDial = fromAddress();
  const tag = wish("language") ?? preferred();
  await speak(tag in LANGUAGES ? tag : "en");
  route();
  try {
    const { body } = await ask("GET", "session");
    await app.enter(body);
  } catch (problem) {
    if (problem.status === 0 || problem.status >= 500) {
      // The server is not there: it will be.
      setTimeout(begin, 2000);
    }
    render();
  }
  route();
  render();
}

begin();
