// The client card: who the other side is. All of it is data from a CRM, shown as text and in its own direction.

import { openBeside, webAddress } from "./alerts.js";
import { icon } from "./icons.js";
import { isParty, otherSide } from "./state.js";
import { h } from "./view.js";
import { day, languageName, moment, t } from "./words.js";

const CLIPPED = 400;
const OPENED = "cordboard.opened";
const open = new Set();

/** Text of a CRM's, in whatever direction it is written, without turning what stands around it. */
export function foreign(text) {
  return h("bdi", {}, String(text));
}

/** Long text with a button for the rest. Numbers in it that the CRM marked as `tel:` or `callto:` can be dialled. */
export function longText(app, id, text) {
  const whole = open.has(id) || text.length <= CLIPPED;
  return h(
    "div",
    { class: "text", dir: "auto" },
    withNumbers(app, whole ? text : `${text.slice(0, CLIPPED).trimEnd()}…`),
    text.length > CLIPPED &&
      h(
        "button",
        {
          class: "link",
          type: "button",
          "aria-expanded": String(whole),
          onclick: () => {
            if (whole) open.delete(id);
            else open.add(id);
            app.render();
          },
        },
        t(whole ? "text.less" : "text.more"),
      ),
  );
}

function withNumbers(app, text) {
  const found = /\b(?:tel|callto):\+?[0-9()./ -]{3,30}[0-9]/gi;
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(found)) {
    parts.push(text.slice(at, match.index), dialButton(app, match[0].replace(/^\w+:/, "")));
    at = match.index + match[0].length;
  }
  return [...parts, text.slice(at)];
}

export function dialButton(app, number, display = number) {
  return h(
    "button",
    { class: "link number", type: "button", onclick: () => app.dial(number), "aria-label": t("dial.call", { number: display }) },
    icon("dial"),
    foreign(display),
  );
}

export function card(app, each) {
  const party = each.party;
  const side = otherSide(each.call, each.card, party);
  return h(
    "section",
    { class: "card", "data-test": "card", "data-call": each.call.id, "aria-label": t("card.title"), key: `card-${each.call.id}` },
    h(
      "div",
      { class: "who" },
      h("span", { class: "portrait", "aria-hidden": "true" }, initials(side.name) ?? icon("person")),
      h(
        "div",
        { class: "who-text" },
        h("h1", { class: "who-name", id: "who", "data-test": "card-name" }, foreign(side.name ?? side.number ?? t(nobody(each)))),
        h(
          "p",
          { class: "who-line" },
          party?.company && party.company !== side.name && h("span", {}, foreign(party.company)),
          side.name && side.number && h("span", { class: "number" }, foreign(side.number)),
          !side.name && h("span", {}, t(each.choose ? "card.several" : "card.unknown")),
        ),
        badges(app, party),
      ),
      party?.url && webAddress(party.url) && h("div", { class: "who-more" }, crmLink(app, each, party)),
      !party && !each.choose && h("div", { class: "who-more" }, h("a", { class: "button", href: "#/search", "data-test": "look-up" }, icon("search"), t("search.title"))),
    ),
    app.blocked === each.call.id && h("p", { class: "notice warn" }, icon("warning"), t("card.blocked")),
  );
}

function nobody(each) {
  return each.card?.from_kind === "withheld" ? "card.withheld" : "card.no-number";
}

function initials(name) {
  if (!name) return null;
  const words = name.split(/\s+/).filter((word) => /^\p{L}/u.test(word));
  return words.length === 0 ? null : [...new Set([words[0], words.at(-1)])].map((word) => [...word][0]).join("").toLocaleUpperCase();
}

function badges(app, party) {
  if (!party) return null;
  const all = [
    party.type && party.type !== "contact" && h("span", { class: "badge" }, t(`party.${party.type}`)),
    party.tier && h("span", { class: "badge gold" }, foreign(party.tier)),
    party.language && h("span", { class: "badge" }, foreign(languageName(party.language))),
    party.owner && h("span", { class: "badge" }, icon("person"), t("card.owner", { who: app.nameOf(party.owner) })),
    ...(party.tags ?? []).map((tag) => h("span", { class: "badge quiet" }, foreign(tag))),
  ].filter(Boolean);
  return all.length > 0 && h("p", { class: "badges" }, all);
}

function crmLink(app, each, party) {
  return h(
    "a",
    {
      class: "button",
      href: webAddress(party.url),
      target: "_blank",
      rel: "noopener noreferrer",
      "data-test": "crm",
      id: "crm-link",
      onclick: () => {
        if (app.blocked === each.call.id) app.blocked = null;
      },
    },
    icon("open"),
    t("card.open"),
  );
}

/** Whether no tab has opened the CRM's page for this call yet, neither before a reload. */
function firstTime(call) {
  let opened = [];
  try {
    opened = JSON.parse(localStorage.getItem(OPENED) ?? "[]");
  } catch {
    // What cannot be read is as if nothing had been opened.
  }
  if (opened.includes(call)) return false;
  try {
    localStorage.setItem(OPENED, JSON.stringify([...opened, call].slice(-20)));
  } catch {
    // A full storage costs a page that is opened a second time.
  }
  return true;
}

/** Open the CRM's page by the service's wish, if nobody did for this call already. */
export function openCrm(app, each) {
  if (!each.party?.url || !firstTime(each.call.id)) return;
  if (!openBeside(each.party.url)) {
    app.blocked = each.call.id;
    app.render();
  }
}

/** What the dialled service asks of the agent. */
export function instruction(each) {
  const text = each.card?.instruction;
  return text && h("p", { class: "notice", "data-test": "instruction", dir: "auto" }, icon("note"), h("span", {}, foreign(text)));
}

/** Several have this number: who is it? */
export function partyChoice(app, each) {
  const parties = each.card?.parties ?? [];
  if (!each.choose && parties.length > 1 && app.choosing !== each.call.id) {
    const again = () => {
      app.choosing = each.call.id;
      app.render();
    };
    return h("p", { key: "choose-again" }, h("button", { class: "link", type: "button", "data-test": "choose-again", onclick: again }, t("choice.again")));
  }
  if (parties.length < 2) return null;
  return h(
    "section",
    { class: "panel", "data-test": "party-choice", "aria-labelledby": "choice-title", key: "choice" },
    h("h2", { class: "panel-title", id: "choice-title" }, t("choice.title", { count: parties.length })),
    h(
      "ul",
      { class: "choices" },
      parties.map((party) =>
        h(
          "li",
          {},
          h(
            "button",
            { class: "choice", type: "button", "aria-pressed": String(isParty(party, each.party)), onclick: () => app.choose(each, party) },
            h("strong", {}, foreign(party.name || party.company || party.id)),
            h("span", { class: "muted" }, foreign([party.company !== party.name && party.company, party.tier, party.adapter].filter(Boolean).join(" · "))),
          ),
        ),
      ),
    ),
  );
}

/** Whoever calls is in no CRM: make them known, in one line. */
export function quickCreate(app, each) {
  if (!each.quick_create || each.party || each.choose) return null;
  return h(
    "form",
    { class: "panel", "data-test": "quick-create", onsubmit: (event) => create(app, each, event), key: `create-${each.call.id}` },
    h("h2", { class: "panel-title" }, t("create.title")),
    h(
      "div",
      { class: "row" },
      field("create.name", { name: "name", required: true, maxlength: "200", autocomplete: "off", "data-test": "create-name" }),
      field("create.company", { name: "company", maxlength: "200", autocomplete: "off", "data-test": "create-company" }),
      h("button", { class: "button primary", type: "submit", "data-test": "create" }, t("create.save")),
    ),
  );
}

export function field(words, attributes) {
  return h("label", { class: "field grow" }, h("span", { class: "label" }, t(words)), h("input", { class: "input", ...attributes }));
}

async function create(app, each, event) {
  event.preventDefault();
  const form = event.target;
  const { name, company } = form.elements;
  await app.run(async () => {
    await app.askOnce("parties", {
      type: "contact",
      name: name.value.trim(),
      ...(company.value.trim() ? { company: company.value.trim() } : {}),
      number: otherSide(each.call, null, null).address,
      call: each.call.id,
    });
    app.say(t("create.done", { name: name.value.trim() }));
    app.reread();
  });
}

/** The card's sections, each only where there is something in it. */
export function sections(app, each) {
  const party = each.party;
  if (!party) return null;
  return [
    (party.balance || party.dunning) &&
      section(
        "card.account",
        "account",
        h(
          "p",
          { class: "line-head" },
          party.balance && h("span", { class: "amount" }, foreign(party.balance)),
          party.dunning && h("span", { class: "badge stop" }, icon("warning"), foreign(party.dunning)),
        ),
      ),
    party.notes &&
      section("card.notes", "notes", longText(app, `notes-${each.call.id}`, party.notes)),
    party.cases?.length > 0 &&
      section(
        "card.cases",
        "cases",
        h(
          "ul",
          { class: "lines" },
          party.cases.map((found) =>
            h(
              "li",
              { class: "line" },
              h(
                "span",
                { class: "line-main" },
                titleOf(found),
              ),
              h("span", { class: "muted" }, [found.status && foreign(found.status), found.opened && ` · ${day(found.opened)}`]),
            ),
          ),
        ),
      ),
    party.appointments?.length > 0 &&
      section("card.appointments", "appointments", toCome(app, party.appointments, (each) => moment(each.at))),
    party.tasks?.length > 0 && section("card.tasks", "tasks", toCome(app, party.tasks, (each) => each.due && day(each.due))),
    party.last_contacts?.length > 0 &&
      section(
        "card.contacts",
        "contacts",
        h(
          "ul",
          { class: "lines" },
          party.last_contacts.map((contact, index) =>
            h(
              "li",
              { class: "line" },
              h("span", { class: "muted" }, moment(contact.at), contact.kind && [" · ", foreign(contact.kind)], (contact.agent ?? contact.user) && [" · ", foreign(app.nameOf(contact.agent ?? contact.user))]),
              contact.summary && longText(app, `contact-${each.call.id}-${index}`, contact.summary),
            ),
          ),
        ),
      ),
    links(party),
    each.card?.shortened && h("p", { class: "muted", key: "shortened", "data-test": "shortened" }, t("card.shortened")),
  ];
}

/** Appointments or tasks: what, when, and by whom. */
function toCome(app, entries, when) {
  return h(
    "ul",
    { class: "lines" },
    entries.map((entry) =>
      h(
        "li",
        { class: "line" },
        h("span", { class: "line-main" }, titleOf(entry)),
        h("span", { class: "muted" }, when(entry), whose(app, entry) && [" · ", foreign(whose(app, entry))]),
      ),
    ),
  );
}

function titleOf(entry) {
  const address = webAddress(entry.url);
  const title = foreign(entry.title || entry.id);
  return address ? h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, title) : title;
}

function whose(app, entry) {
  const who = entry.agent ?? entry.user;
  return who ? app.nameOf(who) : null;
}

/** Ways into other systems: the CRM's own, and those that the configuration makes. */
function links(party) {
  const known = (party.links ?? []).filter((link) => webAddress(link.url));
  return (
    known.length > 0 &&
    section(
      "card.links",
      "links",
      h(
        "ul",
        { class: "operations links" },
        known.map((link) =>
          h("li", {}, h("a", { class: "button", href: webAddress(link.url), target: "_blank", rel: "noopener noreferrer" }, icon("open"), foreign(link.title || new URL(link.url).host))),
        ),
      ),
    )
  );
}

export function section(words, name, ...content) {
  return h(
    "section",
    { class: "panel", "aria-labelledby": `section-${name}`, key: `section-${name}` },
    h("h2", { class: "panel-title", id: `section-${name}` }, t(words)),
    content,
  );
}
