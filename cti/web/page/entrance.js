// The log-in: a page of its own, or a dialog over the desk when a session has ended in the middle of work.

import { ask } from "./api.js";
import { icon } from "./icons.js";
import { h } from "./view.js";
import { LANGUAGES, spoken, t } from "./words.js";

let wrong = null;
let busy = false;

export function entrance(app) {
  return h(
    "div",
    { class: "entrance" },
    h(
      "main",
      { class: "entrance-box", id: "main" },
      brand(),
      h("h1", { class: "entrance-title" }, t("login.title")),
      form(app, ""),
      languages(app),
    ),
  );
}

/** Over the desk: the same person again, while all that they typed stays where it is. */
export function entranceAgain(app) {
  return h(
    "dialog",
    { key: "again", class: "dialog narrow", "aria-labelledby": "again-title", created: app.asModal, oncancel: (e) => e.preventDefault() },
    h("h2", { id: "again-title" }, t("login.again")),
    h("p", { class: "muted" }, t("login.again-why")),
    form(app, app.session.user.name),
  );
}

export function brand() {
  return h(
    "span",
    { class: "brand" },
    h("img", { class: "brand-mark", src: "/static/icon.svg", alt: "", width: "28", height: "28" }),
    h("span", { class: "brand-name" }, "Cordboard"),
  );
}

function form(app, name) {
  const again = name !== "";
  return h(
    "form",
    { class: "stack", "data-test": "login", onsubmit: (event) => submit(app, event) },
    h(
      "label",
      { class: "field" },
      h("span", { class: "label" }, t("login.name")),
      h("input", {
        class: "input",
        name: "username",
        autocomplete: "username",
        autocapitalize: "none",
        spellcheck: "false",
        required: true,
        maxlength: "200",
        "data-test": "username",
        created: (input) => {
          input.value = name;
          if (!again) queueMicrotask(() => input.focus());
        },
      }),
    ),
    h(
      "label",
      { class: "field" },
      h("span", { class: "label" }, t("login.password")),
      h("input", {
        class: "input",
        name: "password",
        type: "password",
        autocomplete: "current-password",
        required: true,
        maxlength: "200",
        "data-test": "password",
        "aria-describedby": wrong ? "login-wrong" : null,
        autofocus: again,
      }),
    ),
    wrong && h("p", { class: "wrong", id: "login-wrong", role: "alert" }, icon("warning"), wrong),
    h("button", { class: "button primary wide", type: "submit", disabled: busy }, t(busy ? "login.busy" : "login.enter")),
  );
}

async function submit(app, event) {
  event.preventDefault();
  const fields = event.target.elements;
  wrong = null;
  busy = true;
  app.render();
  try {
    const { body } = await ask("POST", "session", {
      body: { username: fields.username.value.trim(), password: fields.password.value },
    });
    fields.password.value = "";
    busy = false;
    await app.enter(body);
  } catch (problem) {
    busy = false;
    wrong = app.explain(problem);
    app.render();
    fields.password.select();
  }
}

export function languages(app) {
  return h(
    "label",
    { class: "field inline" },
    h("span", { class: "label" }, t("settings.language")),
    h(
      "select",
      {
        class: "input",
        "data-test": "language",
        value: spoken(),
        onchange: (event) => app.setLanguage(event.target.value),
      },
      Object.entries(LANGUAGES).map(([tag, name]) => h("option", { value: tag, lang: tag }, name)),
    ),
  );
}
