// The words of the page in the reader's language, and how times, durations and plurals are written in it.

export const LANGUAGES = { en: "English", de: "Deutsch", sl: "Slovenščina", ru: "Русский" };

let language = "en";
let locale = "en";
let table = {};
let plurals = new Intl.PluralRules("en");

/** Which of our languages the browser asks for first. */
export function preferred() {
  const wanted = (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((tag) => tag in LANGUAGES) ?? "en";
}

/** From now on the page speaks this language. */
export async function speak(tag) {
  const answer = await fetch(`/static/${tag}.json`);
  if (!answer.ok) throw new Error(`the words of ${tag} are not there`);
  table = await answer.json();
  language = tag;
  plurals = new Intl.PluralRules(tag);
  // `en` alone would mean American times to somebody in London.
  locale = (navigator.languages ?? []).find((wanted) => wanted.slice(0, 2).toLowerCase() === tag) ?? tag;
  document.documentElement.lang = tag;
}

export function spoken() {
  return language;
}

/** The words for `key`; `{name}` in them is replaced, and with `count` the right plural is taken. */
export function t(key, values = {}) {
  const found = table[key] ?? key;
  const words = typeof found === "string" ? found : (found[plurals.select(values.count)] ?? found.other);
  return words.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value ?? whole);
  });
}

/** Whether there are words for `key`. */
export function has(key) {
  return key in table;
}

export function number(value) {
  return new Intl.NumberFormat(locale).format(value);
}

/** `14:05` for today, `Tue 14:05` within the week, else the date as well. */
export function moment(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  const days = Math.floor((startOfDay(new Date()) - startOfDay(at)) / 86_400_000);
  const time = { hour: "2-digit", minute: "2-digit" };
  if (days === 0) return new Intl.DateTimeFormat(locale, time).format(at);
  if (days > 0 && days < 7) return new Intl.DateTimeFormat(locale, { weekday: "short", ...time }).format(at);
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(at);
}

export function day(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(at);
}

function startOfDay(at) {
  return new Date(at.getFullYear(), at.getMonth(), at.getDate()).getTime();
}

/** `0:42`, `12:05`, `1:02:07`, as on the display of a telephone. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => new Intl.NumberFormat(locale, { minimumIntegerDigits: 2 }).format(value);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0
    ? `${number(hours)}:${two(minutes)}:${two(whole % 60)}`
    : `${number(minutes)}:${two(whole % 60)}`;
}

/** How long, no more exactly than it matters: `42 secs`, `4 mins`, `5 hrs`. */
export function span(seconds) {
  const [value, unit] = seconds < 120 ? [seconds, "second"] : seconds < 7200 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return new Intl.NumberFormat(locale, { style: "unit", unit, maximumFractionDigits: value < 10 && unit === "second" ? 1 : 0 }).format(value);
}

/** What a CRM calls a language (`de`, `german`), in words of the reader. */
export function languageName(tag) {
  if (!/^[a-z]{2,3}(-[A-Za-z]{2,4})?$/.test(tag)) return tag;
  try {
    return new Intl.DisplayNames([language], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}
