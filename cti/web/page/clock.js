// Clocks that run in the page, by the server's time: the age of a state, the length of a call, a countdown.

import { h } from "./view.js";
import { duration } from "./words.js";

let ahead = 0;
const watchers = new Set();

/** The server's time of this moment, ISO 8601; a desk's own clock may be wrong by minutes. */
export function setServerTime(iso) {
  ahead = Date.parse(iso) - Date.now();
}

export function serverNow() {
  return Date.now() + ahead;
}

/** The time since then. */
export function since(iso, label) {
  return h("time", { class: "clock", "data-since": Date.parse(iso), "aria-label": label, created: paint });
}

/** The time until then, down to nothing. */
export function until(iso) {
  return h("time", { class: "clock", "data-until": Date.parse(iso), created: paint });
}

/** Call `watch` each second; later, if the page is hidden or the machine sleeps. */
export function eachSecond(watch) {
  watchers.add(watch);
}

export function paintClocks() {
  for (const element of document.querySelectorAll("[data-since], [data-until]")) paint(element);
}

function paint(element) {
  const { since: began, until: ends } = element.dataset;
  const seconds = began === undefined ? (Number(ends) - serverNow()) / 1000 : (serverNow() - Number(began)) / 1000;
  const text = duration(began === undefined ? Math.ceil(seconds) : seconds);
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => {
  paintClocks();
  for (const watch of watchers) watch();
}, 1000);
