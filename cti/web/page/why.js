// Why a call went where it went: each decision of its record, with the rules that were tried; folded until asked for.

import { foreign } from "./card.js";
import { icon } from "./icons.js";
import { h } from "./view.js";
import { moment, span, t } from "./words.js";

/** What became of a rule → the picture beside the words that say so. */
const MARKS = { decided: "check", failed: "close", nobody: "person", passed_on: "deflect" };
const KEPT = 20;

/** Call → its decisions as the server shows them to this role, whether they are unfolded, and of which state they are. */
let asked = new Map();

export function whyView(app, each) {
  if (each.call.direction !== "inbound") return null;
  const id = each.call.id;
  const known = asked.get(id) ?? { open: false, state: null, decisions: null, failed: null };
  if (known.open) refresh(app, each, known);
  return h(
    "details",
    { class: "panel why", open: known.open, key: "why", "data-test": "why" },
    h(
      "summary",
      {
        "data-test": "why-open",
        onclick: (event) => {
          // What is drawn anew meanwhile would fold it again.
          event.preventDefault();
          known.open = !known.open;
          keep(id, known);
          app.render();
        },
      },
      h("h2", { class: "panel-title" }, t("why.title")),
    ),
    known.open && content(app, known),
  );
}

/** Who logs in next may see less. */
export function forgetWhy() {
  asked = new Map();
}

function keep(id, known) {
  asked.delete(id);
  asked.set(id, known);
  for (const old of [...asked.keys()].slice(0, -KEPT)) asked.delete(old);
}

/** A call that goes on may be decided about once more. */
async function refresh(app, each, known) {
  const state = `${each.status} ${each.etag} ${each.call.agent}`;
  if (known.state === state) return;
  known.state = state;
  try {
    const { body } = await app.ask("GET", `calls/${encodeURIComponent(each.call.id)}`);
    known.decisions = body.decisions ?? [];
    known.failed = null;
  } catch (problem) {
    if (!("status" in problem)) throw problem;
    known.failed = app.explain(problem);
  }
  app.render();
}

function content(app, { decisions, failed }) {
  if (failed !== null) return h("p", { class: "notice warn" }, icon("warning"), failed);
  if (decisions === null) return h("p", { class: "muted" }, t("list.loading"));
  if (decisions.length === 0) return h("p", { class: "muted" }, t("why.none"));
  return h("ol", { class: "lines" }, decisions.map((decision) => attempt(app, decision)));
}

function attempt(app, decision) {
  // A role from whom something of customers is hidden gets neither what was known nor what was tried.
  const hidden = Object.keys(decision.facts).length === 0;
  return h(
    "li",
    { class: "line why-attempt", key: decision.attempt, "data-test": "why-attempt" },
    h("h3", { class: "why-when" }, t("why.attempt", { number: decision.attempt, time: moment(decision.at) })),
    h("p", { "data-test": "why-decision" }, decided(app, decision)),
    hidden
      ? h("p", { class: "muted", "data-test": "why-hidden" }, t("why.hidden"))
      : [
          h("ol", { class: "why-rules", "aria-label": t("why.rules") }, decision.trace.map((step) => rule(app, step))),
          h("p", { class: "label" }, t("why.facts")),
          h("dl", { class: "why-facts", "data-test": "why-facts" }, facts(app, decision)),
        ],
  );
}

/** The decision in one sentence. */
function decided(app, decision) {
  const who = decision.agents.map((agent) => app.nameOf(agent)).join(", ");
  const did = decision.action === "dial" && who ? t("why.rings", { who }) : t(`did.${decision.action}`);
  return [
    did,
    " ",
    decision.rule ? t("why.by", { rule: decision.rule }) : t("why.by-no-rule"),
    decision.mode === "route" ? null : [" ", t("why.observed")],
  ];
}

function rule(app, step) {
  return h(
    "li",
    { class: `why-rule ${step.outcome}`, "data-test": "why-rule", "data-outcome": step.outcome },
    h(
      "p",
      { class: "line-head" },
      h("span", { class: "why-mark" }, icon(MARKS[step.outcome])),
      h("strong", {}, foreign(step.rule)),
      h("span", { class: "badge quiet" }, t(`tried.${step.outcome}`)),
    ),
    h("p", { "data-test": "why-note" }, recorded(step.note)),
    // What failed is the note already.
    step.tests.some(({ held }) => held) && h("ul", { class: "why-more" }, step.tests.filter(({ held }) => held).map(test)),
    step.candidates.length > 0 &&
      h(
        "ul",
        { class: "why-more" },
        step.candidates.map(({ agent, why_not: whyNot }) =>
          h("li", { "data-test": "why-candidate" }, foreign(app.nameOf(agent)), ": ", whyNot === null ? t("why.chosen") : recorded(whyNot)),
        ),
        step.more > 0 && h("li", {}, t("why.more", { count: step.more })),
      ),
  );
}

function test({ fact, wanted, found }) {
  return h("li", { "data-test": "why-test" }, t("why.held"), " ", recorded(`${fact}: `), foreign(valueOf(found)), " · ", t("why.wanted"), " ", recorded(wanted));
}

function valueOf(found) {
  return found === null ? t("why.absent") : typeof found === "string" ? `“${found}”` : JSON.stringify(found);
}

/** Words as they stand in the record, which is written in English. */
function recorded(text) {
  return h("bdi", { lang: "en" }, text);
}

function facts(app, { facts: known, identification, last }) {
  const party = known.party;
  const past = known.history;
  const clock = known.clock;
  return [
    fact("why.caller", party?.name || party?.company ? foreign(party.name || party.company) : t(known.parties > 1 ? "card.several" : "card.unknown")),
    party?.owner && fact("why.owner", foreign(app.nameOf(party.owner))),
    identification && fact("why.asked", asking(identification)),
    past && fact("why.talked", past.last_agent === null ? t("why.nobody-yet") : [foreign(app.nameOf(past.last_agent)), ", ", moment(past.last_spoken), aged(past.age)]),
    past && fact("why.tries", String(past.tries)),
    clock && fact("why.clock", [`${clock.date} ${clock.time}, `, t(`hours.${clock.hours}`), clock.holiday && [" (", foreign(clock.holiday), ")"]]),
    known.line?.calls > 0 && fact("why.line", t("why.line-of", { count: known.line.calls, longest: span(known.line.longest) })),
    // Decisions from before there was code of the company's own have none.
    Object.entries(known.own ?? {}).map(([name, said]) => [h("dt", {}, recorded(name)), h("dd", {}, said.why_not ? recorded(said.why_not) : foreign(valueOf(said.value)), aged(said.age))]),
    last && fact("why.before", [h("span", { lang: "en" }, last), known.tried?.length > 0 && [": ", foreign(known.tried.map((agent) => app.nameOf(agent)).join(", "))]]),
  ];
}

function fact(words, value) {
  return [h("dt", {}, t(words)), h("dd", {}, value)];
}

/** What each CRM said, and how old that was. */
function asking({ adapters, age }) {
  return [
    adapters.map((each, index) => [
      index > 0 && "; ",
      foreign(each.adapter),
      ": ",
      t(`said.${each.outcome}`),
      each.age !== undefined && [", ", t("why.old", { age: span(each.age) })],
    ]),
    aged(age),
  ];
}

/** A call is looked up once; at a later attempt that is a while ago. */
function aged(age) {
  return typeof age === "number" && age >= 1 && [" (", t("why.before-this", { age: span(age) }), ")"];
}
