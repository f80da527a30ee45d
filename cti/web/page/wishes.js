// What somebody wants of this browser (theme, sound, notifications, keys), kept in it and nowhere else.

const KEY = "cordboard.wishes";
const USUAL = { theme: "auto", sound: false, notify: false, keys: true, language: null };

let wishes = { ...USUAL };
try {
  wishes = { ...USUAL, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
} catch {
  // What cannot be read is as if nobody had wished anything.
}

export function wish(name) {
  return wishes[name];
}

export function setWish(name, value) {
  wishes = { ...wishes, [name]: value };
  try {
    localStorage.setItem(KEY, JSON.stringify(wishes));
  } catch {
    // It holds until the page is closed.
  }
  applyTheme();
}

export function applyTheme() {
  const root = document.documentElement;
  if (wishes.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = wishes.theme;
}
