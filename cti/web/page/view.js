// Turns a description of what should be seen into the document, changing only what differs, so that focus, what is
// being typed and the place scrolled to survive. Text is only ever set as text: there is no way to pass markup.

const SVG = "http://www.w3.org/2000/svg";
const LIVE = new Set(["value", "checked", "open"]);

/** A node to be: `h("button", {class: "…", onclick: f}, "text", …)`; null, undefined and false are nothing. */
export function h(tag, attributes, ...children) {
  return { tag, attributes: attributes ?? {}, children: children.flat(3).filter(isSomething) };
}

/** Make the children of `parent` look like `nodes`. */
export function show(parent, ...nodes) {
  patchChildren(parent, nodes.flat(3).filter(isSomething));
}

function isSomething(node) {
  return node !== null && node !== undefined && node !== false && node !== "";
}

function patchChildren(parent, wanted) {
  const keyed = new Map();
  const stay = new Set(wanted.map((node) => node.attributes?.key));
  // What goes, goes first: what stays need not be moved then, and moving takes the focus away.
  for (const child of [...parent.childNodes]) {
    if (child.key === undefined) continue;
    if (stay.has(child.key)) keyed.set(child.key, child);
    else child.remove();
  }
  let at = parent.firstChild;
  for (const node of wanted) {
    const found = node.attributes?.key === undefined ? at : keyed.get(node.attributes.key);
    if (found && isSame(found, node)) {
      if (found === at) at = at.nextSibling;
      else parent.insertBefore(found, at);
      patch(found, node);
    } else {
      parent.insertBefore(make(node), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function isSame(element, node) {
  if (typeof node !== "object") return element.nodeType === Node.TEXT_NODE;
  return element.localName === node.tag && element.key === node.attributes.key;
}

function make(node) {
  if (typeof node !== "object") return document.createTextNode(String(node));
  const element = PICTURES.has(node.tag) ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  element.key = node.attributes.key;
  element.given = {};
  element.handlers = {};
  patch(element, node);
  node.attributes.created?.(element);
  return element;
}

function patch(element, node) {
  if (typeof node !== "object") {
    if (element.data !== String(node)) element.data = String(node);
    return;
  }
  const before = element.given;
  const now = node.attributes;
  for (const name of Object.keys(before)) {
    if (!(name in now)) set(element, name, null);
  }
  // A clock's text is kept by `clock.js`, and a select takes its value only once it has its options.
  if (!("data-since" in now || "data-until" in now)) patchChildren(element, node.children);
  for (const [name, value] of Object.entries(now)) {
    if (LIVE.has(name) ? element[name] !== value : before[name] !== value) set(element, name, value);
  }
  element.given = now;
}

function set(element, name, value) {
  if (name === "key" || name === "created") return;
  if (name.startsWith("on")) {
    const event = name.slice(2);
    if (!(event in element.handlers)) {
      element.addEventListener(event, (happened) => element.handlers[event]?.(happened));
    }
    element.handlers[event] = value;
  } else if (LIVE.has(name)) {
    element[name] = value ?? "";
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : value);
  }
}

const PICTURES = new Set(["svg", "path", "circle", "rect", "line", "polyline"]);
