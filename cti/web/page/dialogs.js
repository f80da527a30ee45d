// The dialogs: whom to transfer to or to ask, digits, recording, whether to dial, and the list of the keys.

import { field, foreign } from "./card.js";
import { send } from "./call.js";
import { icon } from "./icons.js";
import { arrows, KEYS } from "./keys.js";
import { h } from "./view.js";
import { t } from "./words.js";

let typed = "";
let sent = "";
let colleagues = null;

export function dialog(app) {
  const { name, ...given } = app.dialog;
  const draw = { target, digits, record, dial, keys };
  return draw[name](app, given);
}

/** What a dialog remembers begins anew with each. */
export function beginDialog() {
  typed = "";
  sent = "";
  colleagues = null;
}

function frame(app, name, title, ...content) {
  return h(
    "dialog",
    {
      key: name,
      class: "dialog",
      "data-test": `dialog-${name}`,
      "aria-labelledby": "dialog-title",
      created: app.asModal,
      oncancel: (event) => {
        event.preventDefault();
        app.closeDialog();
      },
      onclick: (event) => event.target === event.currentTarget && app.closeDialog(),
    },
    h(
      "div",
      { class: "dialog-head" },
      h("h2", { id: "dialog-title" }, title),
      h("button", { class: "button quiet square", type: "button", "aria-label": t("dialog.close"), title: t("dialog.close"), onclick: () => app.closeDialog() }, icon("close")),
    ),
    content,
  );
}

/** Transfer, consult or deflect: a colleague, a group or a number. */
function target(app, { each, operation }) {
  if (colleagues === null) {
    colleagues = [];
    app
      .ask("GET", "colleagues")
      .then(({ body }) => {
        colleagues = body.colleagues ?? body.agents ?? [];
        app.render();
      })
      .catch((problem) => app.toast(app.explain(problem)));
  }
  const wanted = typed.trim().toLocaleLowerCase();
  const fits = (text) => text.toLocaleLowerCase().includes(wanted);
  const people = colleagues.filter((one) => one.id !== app.desk.agent.id && (fits(one.name) || fits(one.id)));
  const groups = [...new Set(colleagues.flatMap((one) => one.groups))].filter(fits).sort();
  const go = (to) => {
    app.closeDialog();
    send(app, each, operation, { to });
  };
  return frame(
    app,
    "target",
    t(`target.${operation}`),
    h(
      "form",
      {
        class: "stack",
        onsubmit: (event) => {
          event.preventDefault();
          const first = people.length === 1 ? `agent:${people[0].id}` : null;
          if (typed.trim() !== "") go(/\d/.test(typed) || first === null ? typed.trim() : first);
        },
      },
      h(
        "div",
        { class: "row" },
        field("target.search", {
          name: "to",
          autocomplete: "off",
          maxlength: "100",
          autofocus: true,
          "data-test": "target",
          oninput: (event) => {
            typed = event.target.value;
            app.render();
          },
        }),
        h("button", { class: "button primary", type: "submit", "data-test": "target-go" }, icon(operation), t(`op.${operation}`)),
      ),
    ),
    h(
      "div",
      { class: "picker", onkeydown: arrows },
      people.length > 0 && h("h3", { class: "menu-title" }, t("target.people")),
      people.map((one) =>
        h(
          "button",
          { key: `agent-${one.id}`, class: "menu-item", type: "button", "data-test": `target-${one.id}`, onclick: () => go(`agent:${one.id}`) },
          h("span", { class: `dot ${one.state}`, "aria-hidden": "true" }),
          h("span", { class: "grow" }, foreign(one.name)),
          h("span", { class: "muted" }, t(`state.${one.state}`)),
        ),
      ),
      groups.length > 0 && h("h3", { class: "menu-title" }, t("target.groups")),
      groups.map((group) =>
        h("button", { key: `group-${group}`, class: "menu-item", type: "button", "data-test": `target-group-${group}`, onclick: () => go(`group:${group}`) }, icon("conference"), foreign(group)),
      ),
    ),
  );
}

function digits(app, { each }) {
  const press = (digit) => {
    sent = (sent + digit).slice(-16);
    app.render();
    send(app, each, "digits", { digits: digit });
  };
  return frame(
    app,
    "digits",
    t("op.digits"),
    h("output", { class: "digits-sent", "aria-live": "polite", "aria-label": t("digits.sent") }, sent || " "),
    h(
      "div",
      { class: "pad", onkeydown: (event) => /^[0-9*#a-dA-D]$/.test(event.key) && press(event.key.toUpperCase()) },
      [..."123456789*0#"].map((digit) => h("button", { class: "button pad-key", type: "button", "data-test": `digit-${digit}`, onclick: () => press(digit) }, digit)),
    ),
  );
}

function record(app, { each }) {
  return frame(
    app,
    "record",
    t("op.record"),
    h(
      "div",
      { class: "operations" },
      ["start", "pause", "resume", "stop"].map((action) =>
        h(
          "button",
          {
            class: "button",
            type: "button",
            "data-test": `record-${action}`,
            onclick: () => {
              app.closeDialog();
              send(app, each, "record", { action });
            },
          },
          t(`record.${action}`),
        ),
      ),
    ),
  );
}

/** A link wants a number dialled: only a click, or Enter, does it. */
function dial(app, { number }) {
  return frame(
    app,
    "dial",
    t("dial.title"),
    h("p", { class: "dial-number" }, foreign(number)),
    h("p", { class: "muted" }, t("dial.why")),
    h(
      "div",
      { class: "operations" },
      h(
        "button",
        {
          class: "button go",
          type: "button",
          autofocus: true,
          "data-test": "dial-confirm",
          onclick: () => {
            app.closeDialog();
            app.dial(number);
          },
        },
        icon("dial"),
        t("dial.go"),
      ),
      h("button", { class: "button", type: "button", onclick: () => app.closeDialog() }, t("dialog.cancel")),
    ),
  );
}

function keys(app) {
  return frame(
    app,
    "keys",
    t("nav.keys"),
    h(
      "dl",
      { class: "keys" },
      Object.entries(KEYS).map(([key, name]) => h("div", { class: "key-row", key: name }, h("dt", {}, h("kbd", {}, key.toUpperCase())), h("dd", {}, t(`key.${name}`)))),
      h("div", { class: "key-row" }, h("dt", {}, h("kbd", {}, "Esc")), h("dd", {}, t("key.escape"))),
    ),
    h("p", { class: "muted" }, t("key.about")),
  );
}
