// The agent's own settings: language, looks, notifications, sound, keys, phone, dial links, password.

import { askToNotify, canNotify } from "./alerts.js";
import { choosesPhone, phones } from "./bar.js";
import { languages } from "./entrance.js";
import { h } from "./view.js";
import { t } from "./words.js";
import { setWish, wish } from "./wishes.js";

export function settingsView(app) {
  return h(
    "div",
    { class: "list-page", key: "settings", "data-test": "settings" },
    h("h1", { class: "page-title" }, t("nav.settings")),
    panel("settings.looks", languages(app), theme(app)),
    app.desk &&
      panel(
        "settings.calls",
        check(app, "sound", "settings.sound"),
        canNotify() && notifications(app),
        h("p", { class: "muted" }, t("settings.handler-about")),
        h("button", { class: "button", type: "button", "data-test": "handler", onclick: () => register(app) }, t("settings.handler")),
      ),
    app.desk && choosesPhone(app) && h("section", { class: "panel stack" }, phones(app, app.desk.agent)),
    panel("settings.keys", check(app, "keys", "settings.keys-on"), h("button", { class: "button", type: "button", onclick: () => app.openDialog("keys") }, t("nav.keys"))),
    password(app),
  );
}

function panel(title, ...content) {
  return h("section", { class: "panel stack", key: title }, h("h2", { class: "panel-title" }, t(title)), content);
}

function theme(app) {
  return h(
    "fieldset",
    { class: "dispositions", "data-test": "theme" },
    h("legend", { class: "label" }, t("settings.theme")),
    ["auto", "light", "dark"].map((name) =>
      h(
        "label",
        { class: "pill", key: name },
        h("input", {
          type: "radio",
          name: "theme",
          value: name,
          checked: wish("theme") === name,
          onchange: () => {
            setWish("theme", name);
            app.render();
          },
        }),
        h("span", {}, t(`theme.${name}`)),
      ),
    ),
  );
}

function check(app, name, words) {
  return h(
    "label",
    { class: "check" },
    h("input", {
      type: "checkbox",
      checked: wish(name),
      "data-test": `wish-${name}`,
      onchange: (event) => {
        setWish(name, event.target.checked);
        app.render();
      },
    }),
    h("span", {}, t(words)),
  );
}

function notifications(app) {
  if (Notification.permission === "granted") return check(app, "notify", "settings.notify-on");
  if (Notification.permission === "denied") return h("p", { class: "muted" }, t("settings.notify-denied"));
  return h(
    "button",
    { class: "button", type: "button", "data-test": "notify", onclick: () => askToNotify().then(() => app.render()) },
    t("settings.notify"),
  );
}

function register(app) {
  try {
    navigator.registerProtocolHandler("tel", `${location.origin}/dial?number=%s`);
    app.toast(t("settings.handler-asked"));
  } catch {
    app.toast(t("settings.handler-no"));
  }
}

function password(app) {
  const box = (words, name, autocomplete) =>
    h(
      "label",
      { class: "field" },
      h("span", { class: "label" }, t(words)),
      h("input", { class: "input short", type: "password", name, autocomplete, required: true, minlength: name === "new" ? "12" : null }),
    );
  return h(
    "form",
    {
      class: "panel stack",
      "data-test": "password-form",
      onsubmit: async (event) => {
        event.preventDefault();
        const form = event.target;
        const body = { old: form.elements.old.value, new: form.elements.new.value };
        const done = await app.run(async () => app.renew((await app.ask("POST", "session/password", { body })).body));
        if (done) {
          form.reset();
          app.toast(t("password.done"));
        }
      },
    },
    h("h2", { class: "panel-title" }, t("password.title")),
    h("input", { type: "text", class: "unseen", name: "username", autocomplete: "username", value: app.session.user.name, tabindex: "-1", "aria-hidden": "true", readonly: true }),
    box("password.old", "old", "current-password"),
    box("password.new", "new", "new-password"),
    h("p", { class: "muted" }, t("password.about")),
    h("div", {}, h("button", { class: "button", type: "submit" }, t("password.change"))),
  );
}
