// Shortcuts: single keys that work wherever nothing is being typed, and their list for `?`.

import { wish } from "./wishes.js";

/** Key → the name of what it does; the words are `key.NAME`. In the order in which they are listed. */
export const KEYS = {
  a: "answer",
  x: "clear",
  h: "hold",
  t: "transfer",
  c: "consult",
  b: "alternate",
  v: "complete",
  r: "reconnect",
  p: "digits",
  n: "notes",
  i: "disposition",
  o: "open",
  e: "extend",
  f: "finish",
  s: "state",
  "/": "dial",
  j: "desk",
  m: "missed",
  u: "unwritten",
  l: "recent",
  k: "search",
  ",": "settings",
  "?": "keys",
};

/** Call `act(name)` for each shortcut that is pressed. */
export function listen(act) {
  document.addEventListener("keydown", (pressed) => {
    if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || pressed.isComposing) return;
    if (pressed.key === "Escape" && isTyping(pressed.target) && pressed.target.closest("dialog") === null) {
      // Out of the field, so that the shortcuts work again.
      pressed.target.blur();
      document.getElementById("main")?.focus();
      return;
    }
    if (!wish("keys") || isTyping(pressed.target) || document.querySelector("dialog[open]") !== null) return;
    const name = KEYS[pressed.key.toLowerCase()];
    if (name === undefined || pressed.repeat) return;
    if (act(name)) pressed.preventDefault();
  });
}

export function isTyping(element) {
  return element instanceof HTMLElement && element.matches("input:not([type=radio]):not([type=checkbox]), textarea, select");
}

/** The arrow keys, Home and End go through the buttons of a list; for a menu's `onkeydown`. */
export function arrows(pressed) {
  const items = [...pressed.currentTarget.querySelectorAll("button:not([disabled]), a[href]")];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[pressed.key];
  if (to === undefined || items.length === 0) return;
  pressed.preventDefault();
  items[(to + items.length) % items.length].focus();
}
