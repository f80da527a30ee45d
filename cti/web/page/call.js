// One call on the desk: its card, what can be done to it now, what the agent writes about it, and its history.

import { webAddress } from "./alerts.js";
import { card, foreign, instruction, longText, partyChoice, quickCreate, section, sections } from "./card.js";
import { since, serverNow, until } from "./clock.js";
import { icon } from "./icons.js";
import { isIncoming } from "./state.js";
import { h } from "./view.js";
import { whyView } from "./why.js";
import { duration, moment, spoken, t } from "./words.js";

/** The operations that are buttons, in this order; those of the server's that are not here have no place on a desk. */
const OPERATIONS = [
  "answer", "hold", "retrieve", "alternate", "complete", "conference", "reconnect", "consult", "transfer", "deflect",
  "pickup", "park", "digits", "record", "clear",
];
/** What asks for something first opens a dialog. */
const ASKS = new Set(["consult", "transfer", "deflect", "digits", "record"]);
const MAIN = new Set(["answer", "complete"]);

const histories = new Map();
/** Call → what CRMs have of it, and for which state of the call that was asked. */
const records = new Map();
/** Milliseconds after which a CRM that is there has been told. */
const TOLD_AFTER = 3000;
const HAS_RECORDS = new Set(["talking", "held", "consulting", "wrap_up", "ended"]);

export function callView(app, each) {
  return h(
    "div",
    { class: "call", key: `call-${each.call.id}`, "data-status": each.status },
    h(
      "div",
      { class: "call-main" },
      head(app, each),
      card(app, each),
      each.status !== "wrap_up" && instruction(each),
      wrapUp(app, each),
      operations(app, each),
      partyChoice(app, each),
      quickCreate(app, each),
      each.status !== "offered" && writing(app, each),
    ),
    h("div", { class: "call-side" }, sections(app, each), inCrm(app, each), history(app, each), whyView(app, each)),
  );
}

function head(app, each) {
  const call = each.call;
  const to = each.card?.display?.to ?? call.display?.to ?? call.to;
  return h(
    "div",
    { class: "call-head" },
    h("span", { class: `status ${each.status}` }, h("span", { class: "dot", "aria-hidden": "true" }), t(`status.${each.status}`), " ", timer(each)),
    call.service && h("span", { class: "service" }, foreign(app.titleOf(call.service))),
    call.direction === "inbound" && to && h("span", { class: "muted number" }, foreign(to)),
  );
}

function timer(each) {
  if (each.status === "wrap_up") return each.wrap_up_until && until(each.wrap_up_until);
  const call = each.call;
  if (call.ended) return null;
  return since(call.answered ?? call.started, t("call.lasts"));
}

function operations(app, each) {
  const possible = OPERATIONS.filter((operation) => each.can.includes(operation));
  if (possible.length === 0) return null;
  return h(
    "div",
    { class: "operations", role: "group", "aria-label": t("call.operations") },
    possible.map((operation) =>
      h(
        "button",
        {
          key: operation,
          class: `button op ${MAIN.has(operation) ? "go" : ""} ${operation === "clear" ? "stop" : ""}`,
          type: "button",
          "data-test": `op-${operation}`,
          disabled: app.atWork.has(each.call.id),
          onclick: () => operate(app, each, operation),
        },
        icon(operation),
        t(`op.${operation}`),
      ),
    ),
  );
}

/** Do it, or ask first for what it needs. */
export function operate(app, each, operation) {
  if (ASKS.has(operation)) app.openDialog(operation === "digits" || operation === "record" ? operation : "target", { each, operation });
  else send(app, each, operation);
}

/** What is asked for while another operation is under way follows it, once; the server says if it cannot be done then. */
export function send(app, each, operation, body = {}) {
  const id = each.call.id;
  const before = app.atWork.get(id);
  if (before !== undefined && operation !== "clear") {
    if (before.operation === operation || before.followed) return Promise.resolve(false);
    before.followed = true;
    return before.done.then(() => {
      const now = app.calls.find((other) => other.call.id === id);
      return now === undefined ? false : send(app, now, operation, body);
    });
  }
  const work = { operation, followed: false };
  app.atWork.set(id, work);
  app.render();
  work.done = app.run(async () => {
    try {
      const { body: done } = await app.ask("POST", `calls/${encodeURIComponent(id)}/${operation}`, { body, patience: 135_000 });
      if (operation === "park" && done.space) app.toast(t("call.parked", { space: done.space }));
    } finally {
      if (app.atWork.get(id) === work) app.atWork.delete(id);
      app.reread();
    }
  });
  return work.done;
}

function writing(app, each) {
  const draft = app.drafts.of(each.call);
  const locked = each.etag === null;
  return h(
    "section",
    { class: "panel", "aria-labelledby": "writing-title", key: `writing-${each.call.id}` },
    h(
      "div",
      { class: "panel-head" },
      h("h2", { class: "panel-title", id: "writing-title" }, t("notes.title")),
      h("span", { class: `saved ${draft.state}`, "data-test": "saved", "data-state": draft.state }, (draft.state !== "saved" || draft.notes || draft.disposition) && t(`notes.${draft.state}`)),
    ),
    draft.theirs && h("p", { class: "notice warn" }, icon("warning"), t("notes.merged")),
    h("textarea", {
      class: "input notes",
      id: "notes",
      "data-test": "notes",
      rows: "5",
      maxlength: "20000",
      dir: "auto",
      "aria-labelledby": "writing-title",
      disabled: locked,
      value: draft.notes,
      placeholder: t("notes.placeholder"),
      oninput: (event) => app.drafts.edit(each, { notes: event.target.value }),
      onblur: () => app.drafts.flush(),
    }),
    each.dispositions.length > 0 && disposition(app, each, draft, locked),
  );
}

function disposition(app, each, draft, locked) {
  const missing = each.disposition_required && !draft.disposition;
  return h(
    "fieldset",
    { class: "dispositions", "data-test": "disposition", id: "disposition", disabled: locked },
    h(
      "legend",
      { class: "label" },
      t("disposition.title"),
      each.disposition_required && h("span", { class: missing ? "required missing" : "required" }, " ", t("disposition.required")),
    ),
    each.dispositions.map(({ id, label, labels }) =>
      h(
        "label",
        { class: "pill", key: id },
        h("input", {
          type: "radio",
          name: `disposition-${each.call.id}`,
          value: id,
          checked: draft.disposition === id,
          onchange: () => app.drafts.edit(each, { disposition: id }, 0),
        }),
        h("span", {}, foreign(labels?.[spoken()] ?? label)),
      ),
    ),
  );
}

function wrapUp(app, each) {
  if (each.status !== "wrap_up") return null;
  const draft = app.drafts.of(each.call);
  const missing = each.disposition_required && !draft.disposition;
  return h(
    "section",
    { class: "panel wrap-up", "data-test": "wrap-up", "aria-label": t("status.wrap_up"), key: "wrap-up" },
    h(
      "p",
      { class: "wrap-up-text" },
      each.wrap_up_until && serverNow() < Date.parse(each.wrap_up_until) && [h("strong", { class: "countdown" }, until(each.wrap_up_until)), " "],
      t(missing ? "wrap.missing" : "wrap.text"),
    ),
    h(
      "div",
      { class: "operations" },
      each.can.includes("extend") &&
        h("button", { class: "button", type: "button", "data-test": "extend", onclick: () => extend(app, each) }, t("wrap.extend", { count: 2 })),
      each.can.includes("finish") &&
        h("button", { class: "button go", type: "button", "data-test": "finish", onclick: () => finish(app, each) }, icon("check"), t("wrap.finish")),
    ),
  );
}

export function extend(app, each) {
  return app.run(async () => {
    await app.ask("POST", `calls/${encodeURIComponent(each.call.id)}/wrap_up`, { body: { extend: 120 } });
    app.reread();
  });
}

export function finish(app, each) {
  const from = location.hash;
  return app.run(async () => {
    await app.drafts.flush();
    await app.ask("POST", `calls/${encodeURIComponent(each.call.id)}/wrap_up`, { body: { finish: true } });
    app.say(t("wrap.finished"));
    app.goFrom(from, "#/");
    app.reread();
  });
}

function history(app, each) {
  const found = historyOf(app, each);
  return section(
    "history.title",
    "history",
    h(
      "div",
      { "data-test": "history" },
      found === null
        ? h("p", { class: "muted" }, t("list.loading"))
        : found.length === 0
          ? h("p", { class: "muted" }, t("history.none"))
          : h("ol", { class: "lines" }, found.map((call) => pastCall(app, call))),
    ),
  );
}

/** Links to the records that CRMs have of this call. */
function inCrm(app, each) {
  const found = recordsOf(app, each).filter((record) => webAddress(record.url));
  // A CRM may show several of them at one address.
  const shown = [...new Map(found.map((record) => [record.url, record])).values()];
  if (shown.length === 0) return null;
  return section(
    "records.title",
    "records",
    h(
      "ul",
      { class: "lines", "data-test": "records" },
      shown.map((record) =>
        h(
          "li",
          { key: record.url },
          h("a", { class: "button", href: webAddress(record.url), target: "_blank", rel: "noopener noreferrer" }, icon("open"), t("records.open", { crm: record.adapter })),
        ),
      ),
    ),
  );
}

function recordsOf(app, each) {
  if (!each.party || !HAS_RECORDS.has(each.status)) return [];
  const id = each.call.id;
  const state = `${each.status} ${each.etag}`;
  const known = records.get(id) ?? { state: null, crm: [] };
  if (known.state !== state) {
    known.state = state;
    records.set(id, known);
    for (const old of [...records.keys()].slice(0, -50)) records.delete(old);
    readRecords(app, id, known);
    setTimeout(() => readRecords(app, id, known), TOLD_AFTER);
  }
  return known.crm;
}

async function readRecords(app, id, known) {
  try {
    known.crm = (await app.ask("GET", `calls/${encodeURIComponent(id)}`)).body.crm ?? [];
  } catch {
    // The call's page is whole without them.
    return;
  }
  app.render();
}

function historyOf(app, each) {
  // Another party chosen is another history.
  const key = `${each.call.id} ${each.party?.adapter ?? ""} ${each.party?.id ?? ""}`;
  if (!histories.has(key)) {
    histories.set(key, null);
    app
      .ask("GET", `calls/${encodeURIComponent(each.call.id)}/history?limit=20`)
      .then(({ body }) => histories.set(key, body.calls ?? []))
      .catch(() => histories.set(key, []))
      .then(() => app.render());
    for (const old of [...histories.keys()].slice(0, -50)) histories.delete(old);
  }
  return histories.get(key);
}

export function pastCall(app, call) {
  return h(
    "li",
    { class: "line", key: call.id },
    h(
      "span",
      { class: "line-head" },
      h("span", { class: `way ${call.outcome ?? ""}` }, icon(call.direction)),
      h("span", {}, moment(call.started)),
      h("span", { class: "muted" }, t(call.outcome ? `outcome.${call.outcome}` : "outcome.none"), call.talk ? ` · ${duration(call.talk)}` : ""),
    ),
    call.agent && call.agent !== app.desk.agent.id && h("span", { class: "muted" }, foreign(app.nameOf(call.agent))),
    call.notes && longText(app, `past-${call.id}`, call.notes),
  );
}

/** What the rail shows of a call. */
export function brief(app, each, current) {
  const name = each.party?.name || each.party?.company || each.card?.display?.from || each.call.display?.from || each.call.from || each.call.to || t("card.no-number");
  return h(
    "li",
    { key: each.call.id },
    h(
      "a",
      {
        class: `rail-call ${isIncoming(each) ? "incoming" : ""}`,
        href: `#/calls/${encodeURIComponent(each.call.id)}`,
        "aria-current": current ? "page" : null,
      },
      h("span", { class: `dot ${each.status}`, "aria-hidden": "true" }),
      h("span", { class: "rail-name" }, foreign(name)),
      h("span", { class: "rail-status" }, t(`status.${each.status}`)),
    ),
  );
}
