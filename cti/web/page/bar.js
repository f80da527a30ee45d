// The bar on top: the agent's own state, the box to dial from, how the line to the server is, and who is logged in.

import { foreign } from "./card.js";
import { since } from "./clock.js";
import { brand } from "./entrance.js";
import { icon } from "./icons.js";
import { arrows } from "./keys.js";
import { h } from "./view.js";
import { has, spoken, t } from "./words.js";

export function bar(app) {
  return h(
    "header",
    { class: "bar" },
    h("a", { class: "brand-link", href: "#/", "aria-label": t("nav.home") }, brand()),
    app.desk && state(app),
    app.desk && dialBox(app),
    h("span", { class: "grow" }),
    h(
      "span",
      { class: "line-state", role: "status", "data-test": "line", "data-line": app.lineState },
      app.lineState !== "live" &&
        app.session.user.agent !== null &&
        h("span", { class: "offline", "data-test": app.lineState === "offline" ? "offline" : null }, icon("warning"), t(`line.${app.lineState}`)),
    ),
    person(app),
  );
}

function state(app) {
  const agent = app.desk.agent;
  const word = stateWord(agent, app.desk.pauses);
  return h(
    "div",
    { class: "menu-place", onkeydown: (event) => closing(app, event, "state") },
    h(
      "button",
      {
        class: `button state ${agent.state}`,
        type: "button",
        id: "state",
        "data-test": "state",
        "data-state": agent.state,
        "aria-expanded": String(app.menu === "state"),
        "aria-controls": "state-menu",
        onclick: () => app.toggleMenu("state"),
      },
      h("span", { class: `dot ${agent.state}`, "aria-hidden": "true" }),
      h("span", { class: "state-word" }, word),
      " ",
      since(agent.since),
      icon("down"),
    ),
    app.menu === "state" && stateMenu(app, agent),
  );
}

export function stateWord(agent, pauses = []) {
  if (agent.state === "paused" && agent.reason) return `${t("state.paused")}: ${reasonWord(agent.reason, pauses)}`;
  return t(`state.${agent.state}`);
}

/** The administrator's title of a reason, else our own words for it, else itself. */
function reasonWord(reason, pauses) {
  const pause = pauses.find(({ id }) => id === reason);
  const title = pause && (pause.labels[spoken()] ?? pause.label);
  if (title !== undefined && title !== reason) return title;
  const key = `reason.${reason}`;
  return has(key) ? t(key) : reason;
}

function pauseWord(reason, pauses) {
  const minutes = pauses.find(({ id }) => id === reason)?.minutes ?? null;
  const word = reasonWord(reason, pauses);
  return minutes === null ? word : t("pause.limited", { reason: word, minutes });
}

function stateMenu(app, agent) {
  const entry = (word, change, current, class_ = change.state) =>
    h(
      "button",
      {
        class: "menu-item",
        type: "button",
        "aria-current": current ? "true" : null,
        "data-test": `state-${change.state}${change.reason ? `-${change.reason}` : ""}`,
        onclick: () => app.setState(change),
      },
      h("span", { class: `dot ${class_}`, "aria-hidden": "true" }),
      foreign(word),
    );
  return h(
    "div",
    { class: "menu", id: "state-menu", "data-test": "state-menu", role: "group", "aria-label": t("state.menu"), onkeydown: arrows, created: app.focusFirst },
    entry(t("state.ready"), { state: "ready" }, agent.state === "ready"),
    entry(t("state.paused"), { state: "paused" }, agent.state === "paused" && !agent.reason),
    (app.desk.pause_reasons ?? []).map((reason) =>
      entry(pauseWord(reason, app.desk.pauses), { state: "paused", reason }, agent.state === "paused" && agent.reason === reason),
    ),
    entry(t("state.logged_out"), { state: "logged_out" }, agent.state === "logged_out"),
    choosesPhone(app) && phones(app, agent),
    agent.state === "ready" && agent.why_not && h("p", { class: "menu-note muted" }, foreign(agent.why_not)),
  );
}

/** Whether there is anything to choose of where this agent sits. */
export function choosesPhone({ desk }) {
  return desk.agent.phones.length > 1 || desk.desks.length > 0 || isAtDesk(desk.agent);
}

const isAtDesk = (agent) => Boolean(agent.phone) && !agent.phones.includes(agent.phone);

export function phones(app, agent) {
  const entry = (phone, words) =>
    h(
      "button",
      {
        class: "menu-item",
        type: "button",
        key: phone ?? "all",
        "data-test": `phone-${phone ?? "all"}`,
        "aria-pressed": String((agent.phone ?? null) === phone),
        onclick: () => app.setPhone(phone),
      },
      icon((agent.phone ?? null) === phone ? "check" : "dial"),
      words,
    );
  return h(
    "div",
    { role: "group", "aria-label": t("phone.title") },
    h("p", { class: "menu-title" }, t("phone.title")),
    isAtDesk(agent) && entry(agent.phone, foreign(agent.phone)),
    agent.phones.map((phone) => entry(phone, foreign(phone))),
    agent.phones.length > 1 && entry(null, t("phone.all")),
    isAtDesk(agent) && agent.phones.length < 2 && entry(null, t("desk.leave")),
    app.desk.desks.length > 0 && desks(app, agent),
  );
}

/** The free desks. A choice alone does nothing: with the arrow keys one goes past several. */
function desks(app, agent) {
  const state = agent.state === "logged_out" ? "ready" : undefined;
  return h(
    "form",
    {
      class: "menu-form",
      onsubmit: (event) => {
        event.preventDefault();
        app.setPhone(event.target.elements.desk.value, state);
      },
    },
    h(
      "label",
      { class: "field grow" },
      h("span", { class: "label" }, t("desk.free")),
      h(
        "select",
        { class: "input", name: "desk", "data-test": "desks" },
        app.desk.desks.map((desk) => h("option", { value: desk, key: desk }, desk)),
      ),
    ),
    h("button", { class: "button", type: "submit", "data-test": "take-desk" }, t(state ? "desk.log-in" : "desk.take")),
  );
}

function dialBox(app) {
  return h(
    "form",
    {
      class: "dial",
      role: "search",
      "data-test": "dial",
      onsubmit: (event) => {
        event.preventDefault();
        const box = event.target.elements.to;
        const to = box.value.trim();
        if (to !== "") app.dial(to).then((done) => done && (box.value = ""));
      },
    },
    h("input", {
      class: "input",
      id: "dial",
      name: "to",
      type: "text",
      inputmode: "tel",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: "100",
      "aria-label": t("dial.box"),
      placeholder: t("dial.box"),
      "data-test": "dial-number",
    }),
    h("button", { class: "button primary square", type: "submit", "aria-label": t("dial.go"), title: t("dial.go"), "data-test": "dial-go", disabled: app.dialling }, icon("dial")),
  );
}

function person(app) {
  const user = app.session.user;
  return h(
    "div",
    { class: "menu-place", onkeydown: (event) => closing(app, event, "person") },
    h(
      "button",
      {
        class: "button quiet",
        type: "button",
        id: "person",
        "data-test": "person",
        "aria-expanded": String(app.menu === "person"),
        "aria-controls": "person-menu",
        onclick: () => app.toggleMenu("person"),
      },
      icon("person"),
      h("span", { class: "person-name" }, foreign(app.desk?.agent.name ?? user.name)),
      icon("down"),
    ),
    app.menu === "person" &&
      h(
        "div",
        { class: "menu right", id: "person-menu", role: "group", "aria-label": t("nav.you"), onkeydown: arrows, created: app.focusFirst },
        h("a", { class: "menu-item", href: "#/settings", onclick: () => app.toggleMenu(null) }, icon("settings"), t("nav.settings")),
        h("button", { class: "menu-item", type: "button", onclick: () => app.openDialog("keys") }, icon("keys"), t("nav.keys")),
        h("button", { class: "menu-item", type: "button", "data-test": "leave", onclick: () => app.leave() }, icon("leave"), t("nav.leave")),
      ),
  );
}

/** Escape, or the focus leaving, closes a menu. */
function closing(app, event, name) {
  if (event.key !== "Escape" || app.menu !== name) return;
  event.stopPropagation();
  app.toggleMenu(null);
  document.getElementById(name)?.focus();
}
