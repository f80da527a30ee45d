// The pictures on buttons, drawn with lines on a field of 24 by 24. They only repeat what words beside them say.

import { h } from "./view.js";

const HANDSET =
  "M7 3H4.6A1.6 1.6 0 0 0 3 4.8C3.7 13 11 20.3 19.2 21A1.6 1.6 0 0 0 21 19.400V17l-4.5-1.7-2 2A14 14 0 0 1 7 10l2-2z";

const LINES = {
  answer: [HANDSET, "M14 4.5a6 6 0 0 1 5.5 5.5", "M14 8a2.5 2.5 0 0 1 2 2"],
  clear: ["M2.5 14.5c5-6 14-6 19 0l-2.5 3-4-1.5v-3a11 11 0 0 0-6 0v3l-4 1.5z"],
  hold: ["M9 5v14", "M15 5v14"],
  retrieve: ["M7 4.5v15l12-7.5z"],
  transfer: [HANDSET, "M14 6h7", "M18 3l3 3-3 3"],
  deflect: [HANDSET, "M14 6h7", "M18 3l3 3-3 3"],
  consult: ["M4 5h11v8H9l-4 3v-3H4z", "M18 9h2v8h-2v3l-4-3h-3"],
  complete: ["M4 12h13", "M13 7l5 5-5 5", "M21 5v14"],
  reconnect: ["M20 12H7", "M11 7l-5 5 5 5", "M3 5v14"],
  alternate: ["M4 8h14", "M15 4l4 4-4 4", "M20 16H6", "M9 12l-4 4 4 4"],
  conference: [
    "M9 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
    "M3 19c0-3 2.5-5 6-5s6 2 6 5",
    "M16 5.5a3 3 0 0 1 0 5",
    "M18 14.5c2 .7 3 2.3 3 4.5",
  ],
  pickup: [HANDSET, "M21 3l-6 6", "M15 4v5h5"],
  park: ["M5 4h14v16H5z", "M10 17V8h3a2.5 2.5 0 0 1 0 5h-3"],
  digits: ["M6 6h.01M12 6h.01M18 6h.01M6 12h.01M12 12h.01M18 12h.01M6 18h.01M12 18h.01M18 18h.01"],
  record: ["M12 19a7 7 0 1 0 0-14 7 7 0 0 0 0 14z", "M12 14a2 2 0 1 0 0-4 2 2 0 0 0 0 4z"],
  dial: [HANDSET],
  desk: ["M4 5h16v10H4z", "M9 20h6", "M12 15v5"],
  missed: [HANDSET, "M14 3l6 6", "M20 3l-6 6"],
  unwritten: ["M5 20h14", "M14.5 4.5l4 4L9 18H5v-4z"],
  search: ["M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z", "M15.5 15.5L20 20"],
  recent: ["M12 21a9 9 0 1 0-9-9", "M3 8v4h4", "M12 7v5l3 2"],
  settings: ["M4 7h9", "M17 7h3", "M15 9a2 2 0 1 0 0-4 2 2 0 0 0 0 4z", "M4 17h3", "M11 17h9", "M9 19a2 2 0 1 0 0-4 2 2 0 0 0 0 4z"],
  keys: ["M9.5 9a2.5 2.5 0 1 1 3.5 2.300c-.7.4-1 .8-1 1.7", "M12 16.5h.01", "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z"],
  leave: ["M14 4h5v16h-5", "M10 8l-4 4 4 4", "M6 12h9"],
  open: ["M13 4h7v7", "M20 4l-9 9", "M18 14v6H4V6h6"],
  down: ["M6 9l6 6 6-6"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  warning: ["M12 4l9.5 16h-19z", "M12 10v4", "M12 17h.01"],
  person: ["M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M4 20.5c0-4 3.5-6 8-6s8 2 8 6"],
  note: ["M5 4h14v11l-5 5H5z", "M14 20v-5h5", "M8 8.5h8", "M8 12h5"],
  more: ["M5 12h.01M12 12h.01M19 12h.01"],
  inbound: ["M19 5L7 17", "M7 8v9h9"],
  outbound: ["M5 19L17 7", "M8 7h9v9"],
  internal: ["M4 8h14", "M15 4l4 4-4 4", "M20 16H6", "M9 12l-4 4 4 4"],
};

/** A picture beside words. */
export function icon(name) {
  return h(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    (LINES[name] ?? LINES.more).map((d) => h("path", { d })),
  );
}
