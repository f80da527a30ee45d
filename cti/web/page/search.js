// Looking customers up: by words, a number or a key, in all CRMs at once; one opened shows its card, and may be who calls.

import { card, foreign, sections } from "./card.js";
import { icon } from "./icons.js";
import { isParty, otherSide } from "./state.js";
import { h } from "./view.js";
import { t } from "./words.js";

const ANYTHING = "";
const FINE = new Set(["hit", "miss"]);

/** What was looked for, what was found (null: nothing yet), and whose card is open. */
let seeking = nothingSought();
let asked = 0;

function nothingSought() {
  return { kind: ANYTHING, busy: false, found: null, failed: null, opened: null };
}

export function searchView(app) {
  return h(
    "div",
    { class: "list-page wide", key: "search", "data-test": "search" },
    h("h1", { class: "page-title" }, t("search.title")),
    h("p", { class: "muted lead" }, t("search.about")),
    form(app),
    h("div", { role: "status", "aria-live": "polite" }, said()),
    seeking.failed && h("p", { class: "notice warn" }, icon("warning"), seeking.failed),
    seeking.found !== null && results(app),
    seeking.opened !== null && opened(app),
  );
}

function form(app) {
  const kinds = app.desk.keys ?? [];
  const kind = kinds.find((each) => each.name === seeking.kind);
  return h(
    "form",
    { class: "row", role: "search", "aria-label": t("search.title"), onsubmit: (event) => begin(app, event, kind) },
    kinds.length > 0 &&
      h(
        "label",
        { class: "field short" },
        h("span", { class: "label" }, t("search.by")),
        h(
          "select",
          {
            class: "input",
            "data-test": "search-kind",
            value: seeking.kind,
            onchange: (event) => {
              seeking = { ...seeking, kind: event.target.value };
              app.render();
            },
          },
          h("option", { value: ANYTHING }, t("search.anything")),
          kinds.map((each) => h("option", { value: each.name, key: each.name }, each.title || each.name)),
        ),
      ),
    h(
      "label",
      { class: "field grow" },
      h("span", { class: "label" }, kind === undefined ? t("search.box") : foreign(kind.title || kind.name)),
      h("input", {
        class: "input",
        id: "search",
        name: "words",
        type: "text",
        required: true,
        minlength: kind === undefined ? "2" : "1",
        maxlength: "100",
        autocomplete: "off",
        spellcheck: "false",
        dir: "auto",
        "data-test": "search-words",
      }),
    ),
    h("button", { class: "button primary", type: "submit", "data-test": "search-go", disabled: seeking.busy }, icon("search"), t("search.go")),
    kind?.sensitive && h("p", { class: "muted" }, t("search.sensitive")),
  );
}

async function begin(app, event, kind) {
  event.preventDefault();
  const box = event.target.elements.words;
  const words = box.value.trim();
  if (words === "") return;
  // What nobody is to see does not stay on the screen either.
  if (kind?.sensitive) box.value = "";
  const turn = (asked += 1);
  seeking = { ...nothingSought(), kind: seeking.kind, busy: true };
  app.render();
  try {
    const { body } = await (kind === undefined
      ? app.ask("GET", `search?q=${encodeURIComponent(words)}`)
      : app.ask("POST", "identify", { body: { key: kind.name, value: words } }));
    if (turn !== asked) return;
    seeking = { ...seeking, busy: false, found: body };
    if (body.parties.length === 1) open(app, body.parties[0]);
  } catch (problem) {
    if (!("status" in problem)) throw problem;
    if (turn !== asked) return;
    seeking = { ...seeking, busy: false, failed: app.explain(problem) };
  }
  app.render();
}

function said() {
  if (seeking.busy) return h("p", { class: "muted" }, t("search.busy"));
  if (seeking.found === null) return null;
  const count = seeking.found.parties.length;
  return h("p", { class: "muted", "data-test": "search-count" }, t(count === 0 ? "search.none" : "search.found", { count }));
}

function results(app) {
  const { parties, adapters, complete } = seeking.found;
  const failed = [...new Set(adapters.filter((each) => !FINE.has(each.outcome)).map((each) => each.adapter))];
  return h(
    "div",
    { class: "stack results" },
    failed.length > 0 &&
      h("p", { class: "notice warn", "data-test": "search-failed" }, icon("warning"), h("span", {}, t("search.failed"), " ", foreign(failed.join(", ")))),
    parties.length > 0 &&
      h(
        "ul",
        { class: "rows", "aria-label": t("search.title") },
        parties.map((party) => row(app, party)),
      ),
    complete === false && failed.length === 0 && h("p", { class: "muted" }, t("search.more")),
  );
}

function row(app, party) {
  return h(
    "li",
    { class: "list-row", key: `${party.adapter} ${party.type} ${party.id}` },
    h(
      "button",
      {
        class: "choice",
        type: "button",
        "data-test": "search-result",
        "aria-pressed": String(isParty(party, seeking.opened)),
        onclick: () => open(app, party),
      },
      h("strong", {}, foreign(party.name || party.company || party.id)),
      h("span", { class: "muted" }, foreign([party.company !== party.name && party.company, party.tier, party.adapter].filter(Boolean).join(" · "))),
    ),
  );
}

/** All that is known of them, asked now. */
async function open(app, party) {
  const turn = (asked += 1);
  seeking = { ...seeking, opened: party, failed: null };
  app.render();
  const which = ["adapter", "type", "id"].map((key) => `${key}=${encodeURIComponent(party[key])}`).join("&");
  try {
    const { body } = await app.ask("GET", `card?${which}`);
    if (turn === asked) seeking = { ...seeking, opened: body };
  } catch (problem) {
    if (!("status" in problem)) throw problem;
    if (turn === asked) seeking = { ...seeking, failed: app.explain(problem) };
  }
  app.render();
}

function opened(app) {
  const party = seeking.opened;
  // As the card of a call that nobody has made.
  const each = { call: { id: `${party.adapter}/${party.id}`, direction: "inbound" }, card: null, party, choose: false };
  return h(
    "div",
    { class: "call", key: `opened-${each.call.id}`, "data-test": "search-card" },
    h("div", { class: "call-main" }, card(app, each), callers(app, party)),
    h("div", { class: "call-side" }, sections(app, each)),
  );
}

/** Each call of this moment that could be theirs. */
function callers(app, party) {
  const calls = app.calls.filter((each) => each.status !== "ended" && each.etag !== null && !isParty(each.party, party));
  if (calls.length === 0) return null;
  return h(
    "div",
    { class: "operations", role: "group", "aria-label": t("search.callers") },
    calls.map((each) => {
      const side = otherSide(each.call, each.card, each.party);
      return h(
        "button",
        { key: each.call.id, class: "button go", type: "button", "data-test": "search-them", onclick: () => assign(app, each, party) },
        icon("check"),
        h("span", {}, t("search.them"), " ", foreign(side.name ?? side.number ?? t("card.no-number"))),
      );
    }),
  );
}

async function assign(app, each, party) {
  if (await app.choose(each, party)) app.go(`#/calls/${encodeURIComponent(each.call.id)}`);
}

/** Who logs in next has looked for nobody yet. */
export function forgetSearch() {
  asked += 1;
  seeking = nothingSought();
}
