// How an incoming call makes itself noticed outside of the page: a notification, a tone, the CRM's own page.

import { setWish, wish } from "./wishes.js";

const shown = new Map();
let sounding = null;

/** Whether the browser could show notifications at all. */
export function canNotify() {
  return "Notification" in window;
}

/** Ask the browser's user; only ever from a click. True if they agreed. */
export async function askToNotify() {
  const agreed = (await Notification.requestPermission()) === "granted";
  setWish("notify", agreed);
  return agreed;
}

export function notify(call, title, body) {
  if (!wish("notify") || !canNotify() || Notification.permission !== "granted") return;
  if (document.visibilityState === "visible" && document.hasFocus()) return;
  const note = new Notification(title, { body, tag: `cordboard-${call}`, icon: "/static/icon.svg", silent: true });
  note.onclick = () => {
    window.focus();
    location.hash = `#/calls/${encodeURIComponent(call)}`;
    note.close();
  };
  shown.set(call, note);
}

export function takeBack(call) {
  shown.get(call)?.close();
  shown.delete(call);
}

/** Two soft tones, again and again until `quiet`; nothing unless somebody has switched it on. */
export function ring() {
  if (!wish("sound") || sounding !== null) return;
  const audio = new AudioContext();
  const once = () => {
    [659.3, 523.3].forEach((pitch, index) => tone(audio, pitch, audio.currentTime + index * 0.22));
  };
  once();
  sounding = { audio, timer: setInterval(once, 2400) };
}

export function quiet() {
  if (sounding === null) return;
  clearInterval(sounding.timer);
  sounding.audio.close();
  sounding = null;
}

function tone(audio, pitch, at) {
  const oscillator = audio.createOscillator();
  const volume = audio.createGain();
  oscillator.type = "sine";
  oscillator.frequency.value = pitch;
  volume.gain.setValueAtTime(0.0001, at);
  volume.gain.exponentialRampToValueAtTime(0.16, at + 0.03);
  volume.gain.exponentialRampToValueAtTime(0.0001, at + 0.4);
  oscillator.connect(volume).connect(audio.destination);
  oscillator.start(at);
  oscillator.stop(at + 0.45);
}

/** The address if it is one of the web's, else null: what a CRM says is data, a `javascript:` link too. */
export function webAddress(url) {
  if (typeof url !== "string") return null;
  try {
    const address = new URL(url);
    return address.protocol === "https:" || address.protocol === "http:" ? address.href : null;
  } catch {
    return null;
  }
}

/** Open the CRM's page beside this one. False if the browser does not let us without a click. */
export function openBeside(url) {
  const address = webAddress(url);
  if (address === null) return true;
  const opened = window.open("about:blank", "cordboard-crm");
  if (opened === null) return false;
  opened.opener = null;
  opened.location.href = address;
  return true;
}
