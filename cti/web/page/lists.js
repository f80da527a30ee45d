// The lists beside the desk: missed calls, calls not yet written up, the last calls. Each page of them is fetched
// when it is looked at, and again when the server says that something in it is another.

import { dialButton, foreign, longText } from "./card.js";
import { pastCall } from "./call.js";
import { icon } from "./icons.js";
import { h } from "./view.js";
import { duration, moment, t } from "./words.js";

const SOURCES = {
  missed: { path: "callbacks?state=open", items: (body) => body.callbacks },
  unwritten: { path: "desk/unwritten", items: (body) => body.calls },
  recent: { path: "calls?limit=50", items: (body) => body.calls },
};

const pages = new Map();

/** The list of this name as far as it is here; fetches it if it is not. */
function pageOf(app, name) {
  if (!pages.has(name)) {
    pages.set(name, { items: null, next: null, failed: null });
    fetchPage(app, name);
  }
  return pages.get(name);
}

async function fetchPage(app, name, cursor = null) {
  const { path, items } = SOURCES[name];
  const before = cursor === null ? [] : (pages.get(name)?.items ?? []);
  try {
    const more = cursor === null ? "" : `${path.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(cursor)}`;
    const { body } = await app.ask("GET", path + more);
    pages.set(name, { items: [...before, ...items(body)], next: body.next ?? null, failed: null });
  } catch (problem) {
    pages.set(name, { items: before, next: null, failed: app.explain(problem) });
  }
  app.render();
}

/** What is shown may be old: fetch it again, and forget what is not shown. */
export function stale(app) {
  for (const name of [...pages.keys()]) {
    if (app.route.name === name) fetchPage(app, name);
    else pages.delete(name);
  }
}

export function listView(app, name) {
  const page = pageOf(app, name);
  return h(
    "div",
    { class: "list-page", key: name, "data-test": name },
    h("h1", { class: "page-title" }, t(`list.${name}`)),
    h("p", { class: "muted lead" }, t(`list.${name}-about`)),
    page.failed && h("p", { class: "notice warn" }, icon("warning"), page.failed),
    page.items === null
      ? h("p", { class: "muted" }, t("list.loading"))
      : page.items.length === 0
        ? h("div", { class: "empty" }, icon("check"), h("p", {}, t(`list.${name}-none`)))
        : h("ul", { class: "rows" }, page.items.map((item) => ROWS[name](app, item))),
    page.next && h("button", { class: "button", type: "button", onclick: () => fetchPage(app, name, page.next) }, t("list.more")),
  );
}

const ROWS = { missed, unwritten, recent };

function missed(app, item) {
  const own = item.owner === app.desk.agent.id;
  const who = item.party?.name || item.party?.company;
  const number = item.display ?? item.number;
  return h(
    "li",
    { class: "list-row", key: item.id, "data-test": "missed-call", "data-number": item.number },
    h(
      "div",
      { class: "row-main" },
      h("strong", { class: "row-name" }, foreign(who ?? number)),
      h(
        "span",
        { class: "muted" },
        who && [foreign(number), " · "],
        item.created && moment(item.created),
        item.service && [" · ", foreign(app.titleOf(item.service))],
        item.tries > 1 && [" · ", t("missed.tries", { count: item.tries })],
        item.failed_tries > 0 && [" · ", t("missed.in-vain", { count: item.failed_tries })],
        whenCalled(item),
      ),
      item.note && longText(app, `missed-${item.id}`, item.note),
      h("span", { class: own ? "badge gold" : "badge quiet" }, item.owner ? (own ? t("missed.yours") : foreign(app.nameOf(item.owner))) : t("missed.nobody")),
    ),
    h(
      "div",
      { class: "row-actions" },
      h(
        "button",
        { class: "button go", type: "button", "data-test": "call-back", "aria-label": t("missed.call-whom", { who: who ?? number }), onclick: () => callBack(app, item) },
        icon("dial"),
        t("missed.call"),
      ),
      h(
        "button",
        { class: "button", type: "button", "data-test": own ? "give-back" : "take", onclick: () => change(app, item, { owner: own ? null : app.desk.agent.id }) },
        t(own ? "missed.give" : "missed.take"),
      ),
      h("button", { class: "button", type: "button", "data-test": "done", onclick: () => change(app, item, { state: "done" }) }, icon("check"), t("missed.done")),
    ),
  );
}

/** When it is made by itself, if it is; what reads otherwise than the time that was planned says so. */
function whenCalled(item) {
  if (item.calling) return [" · ", h("span", { "data-test": "calling" }, t("missed.calling"))];
  if (item.next) {
    const [time, due] = [moment(item.next), item.due && moment(item.due)];
    const words = due && due !== time ? t("missed.next-instead", { time, due }) : t("missed.next", { time });
    return [" · ", h("span", { "data-test": "next" }, words)];
  }
  if (item.given_up) return [" · ", h("span", { "data-test": "given-up" }, t("missed.given-up"))];
  return item.due && [" · ", t("missed.due", { time: moment(item.due) })];
}

function change(app, item, changes) {
  return app.run(async () => {
    try {
      await app.ask("PATCH", `callbacks/${encodeURIComponent(item.id)}`, { body: changes, etag: item.etag });
    } finally {
      await fetchPage(app, "missed");
      app.reread();
    }
  });
}

function callBack(app, item) {
  const from = location.hash;
  return app.run(async () => {
    await app.ask("POST", `callbacks/${encodeURIComponent(item.id)}/dial`, { patience: 30_000 });
    app.goFrom(from, "#/");
    app.reread();
  });
}

function unwritten(app, { call }) {
  return h(
    "li",
    { class: "list-row", key: call.id, "data-test": "unwritten-call" },
    h(
      "div",
      { class: "row-main" },
      h("strong", { class: "row-name" }, foreign(nameOf(call))),
      h("span", { class: "muted" }, moment(call.started), call.service && [" · ", foreign(app.titleOf(call.service))], call.talk ? ` · ${duration(call.talk)}` : ""),
    ),
    h("div", { class: "row-actions" }, h("a", { class: "button", href: `#/calls/${encodeURIComponent(call.id)}` }, icon("unwritten"), t("unwritten.write"))),
  );
}

function recent(app, call) {
  const number = call.direction === "outbound" ? call.to : call.from;
  return h(
    "li",
    { class: "list-row", key: call.id },
    h(
      "div",
      { class: "row-main" },
      h("a", { class: "row-name", href: `#/calls/${encodeURIComponent(call.id)}` }, foreign(nameOf(call))),
      h("ul", { class: "plain-list" }, pastCall(app, call)),
    ),
    number && h("div", { class: "row-actions" }, dialButton(app, number, numberOf(call))),
  );
}

function nameOf(call) {
  return call.party?.name || call.party?.company || numberOf(call) || t("card.no-number");
}

function numberOf(call) {
  return call.direction === "outbound" ? (call.display?.to ?? call.to) : (call.display?.from ?? call.from);
}
