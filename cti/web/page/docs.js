// The description of the API, as people read it: `/openapi.json`, operation by operation. Nothing is asked of the API.

const REF = "#/components/schemas/";
let schemas = {};

/** An element with attributes and children; text stays text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Text in which `words in backticks` are code. */
function prose(text) {
  const parts = text.split("`").map((part, at) => (at % 2 ? element("code", {}, part) : part));
  return element("span", {}, ...parts);
}

function shapeId(name) {
  return `shape-${name}`;
}

/** A schema as one line: its type and what it allows. */
function brief(schema) {
  if (schema.$ref) {
    const name = schema.$ref.slice(REF.length);
    return element("a", { href: `#${shapeId(name)}` }, name);
  }
  const types = [schema.type ?? "anything"].flat();
  const line = element("span", {});
  if (types.includes("array") && schema.items) line.append("list of ", brief(schema.items));
  else line.append(element("code", {}, types.join(" or ")));
  const limits = [];
  if (schema.enum) limits.push(`one of ${schema.enum.map((each) => String(each)).join(", ")}`);
  if (schema.format) limits.push(schema.format);
  if (schema.pattern) limits.push(`pattern ${schema.pattern}`);
  if (schema.minLength !== undefined || schema.maxLength !== undefined)
    limits.push(`${schema.minLength ?? 0} to ${schema.maxLength ?? "any number of"} characters`);
  if (schema.minimum !== undefined || schema.maximum !== undefined)
    limits.push(`${schema.minimum ?? "any"} to ${schema.maximum ?? "any"}`);
  if (schema.default !== undefined) limits.push(`default ${JSON.stringify(schema.default)}`);
  if (limits.length) line.append(` ${limits.join("; ")}`);
  if (schema.description) line.append(" · ", prose(schema.description));
  return line;
}

/** The members of an object or of a list's items, with theirs below them; null if there are none. */
function members(schema) {
  const inside = schema.items && !schema.items.$ref ? schema.items : schema;
  const found = Object.entries(inside.properties ?? {});
  if (!found.length) return null;
  const list = element("ul", { class: "docs-members" });
  for (const [name, each] of found) {
    const needed = (inside.required ?? []).includes(name) ? "" : " (may be absent)";
    list.append(element("li", {}, element("code", {}, name), `${needed} `, brief(each), members(each)));
  }
  return list;
}

/** An example of what a schema describes: its own, or one made up of its parts. */
function example(schema, depth = 0) {
  if (schema.examples) return schema.examples[0];
  if (schema.$ref) return depth > 3 ? {} : example(schemas[schema.$ref.slice(REF.length)] ?? {}, depth + 1);
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const type = [schema.type].flat()[0];
  if (type === "object")
    return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, each]) => [name, example(each, depth + 1)]));
  if (type === "array") return [example(schema.items ?? {}, depth + 1)];
  if (type === "integer" || type === "number") return schema.minimum ?? 0;
  if (type === "boolean") return true;
  return schema.format === "date-time" ? "2026-03-01T09:15:00.250Z" : "…";
}

function table(caption, heads, rows) {
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) =>
    element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((cell) => element("td", {}, cell))),
  );
  const made = element("table", {}, element("caption", { class: "unseen" }, caption), element("thead", {}, head), element("tbody", {}, ...body));
  // Wide tables scroll by themselves, by keyboard as well.
  return element("div", { class: "docs-wide", tabindex: "0", role: "group", "aria-label": caption }, made);
}

function part(title, ...children) {
  return element("section", {}, element("h3", {}, title), ...children);
}

function parameters(operation) {
  if (!operation.parameters?.length) return null;
  const rows = operation.parameters.map((each) => [
    element("code", {}, each.name),
    each.required ? `${each.in}, needed` : each.in,
    brief(each.schema),
    prose(each.description ?? ""),
  ]);
  return part("Parameters", table("Parameters", ["name", "in", "what it is", "what for"], rows));
}

/** A command that asks for this, as it could be typed. */
function command(method, path, operation) {
  const lines = [`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} "$CORDBOARD${path}"`];
  if (operation.security) lines.push('-H "Authorization: Bearer $TOKEN"');
  if (operation.parameters?.some((each) => each.name === "If-Match")) lines.push("-H 'If-Match: \"…\"'");
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (body) lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(example(body))}'`);
  return element("pre", { tabindex: "0", "aria-label": "Example" }, lines.join(" \\\n  "));
}

function request(operation) {
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (!body) return null;
  return part(operation.requestBody.required ? "Body" : "Body (may be left out)", brief(body), members(body));
}

function responses(operation) {
  const rows = Object.entries(operation.responses).map(([status, each]) => {
    const [media, content] = Object.entries(each.content ?? {})[0] ?? [];
    const shape = content && media !== "application/problem+json" ? element("div", {}, brief(content.schema), members(content.schema)) : "";
    return [element("code", {}, status), prose(each.description), media ? element("code", {}, media) : "", shape];
  });
  return part("Answers", table("Answers", ["status", "when", "type", "what"], rows));
}

function entry(path, method, operation) {
  const roles = operation["x-roles"];
  const inside = element(
    "div",
    { class: "docs-inside" },
    operation.description ? element("p", {}, prose(operation.description)) : null,
    element("p", { class: "muted" }, roles ? `For the roles ${roles.join(", ")}.` : "Nobody needs to log in for it."),
    command(method, path, operation),
    parameters(operation),
    request(operation),
    responses(operation),
  );
  const summary = element(
    "summary",
    {},
    element("span", { class: "docs-method" }, method.toUpperCase()),
    element("span", { class: "docs-path" }, path),
    element("span", {}, prose(operation.summary)),
  );
  const made = element("details", { class: "docs-entry", id: operation.operationId }, summary, inside);
  made.dataset.words = [method, path, operation.summary, operation.description ?? ""].join(" ").toLowerCase();
  return made;
}

function group(id, title, entries) {
  const made = element("section", { class: "docs-group", id, "aria-labelledby": `${id}-title` });
  made.append(element("h2", { id: `${id}-title` }, title), ...entries);
  return made;
}

function shape(name, schema) {
  const inside = element(
    "div",
    { class: "docs-inside" },
    schema.description ? element("p", {}, prose(schema.description)) : null,
    members(schema) ?? brief(schema),
  );
  const summary = element("summary", {}, element("span", { class: "docs-path" }, name));
  const made = element("details", { class: "docs-entry", id: shapeId(name) }, summary, inside);
  made.dataset.words = name.toLowerCase();
  return made;
}

/** Open what the address names, and bring it into view. */
function reveal() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named === null) return;
  if (named instanceof HTMLDetailsElement) named.open = true;
  named.scrollIntoView();
}

function filter() {
  const wanted = document.getElementById("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const section of document.querySelectorAll(".docs-group")) {
    let some = false;
    for (const each of section.querySelectorAll(".docs-entry")) {
      each.hidden = !wanted.every((word) => each.dataset.words.includes(word));
      some ||= !each.hidden;
      if (!each.hidden) count += 1;
    }
    section.hidden = !some;
  }
  document.getElementById("count").textContent = wanted.length ? `${count} found` : "";
}

async function show() {
  const main = document.getElementById("operations");
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  const api = await answer.json();
  schemas = api.components.schemas;
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("about").append(prose(api.info.description));
  const groups = new Map(api.tags.map(({ name }) => [name, []]));
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods))
      groups.get(operation.tags[0]).push(entry(path, method, operation));
  for (const [name, entries] of groups) main.append(group(`about-${name}`, name, entries));
  main.append(group("shapes", "shapes", Object.entries(schemas).map(([name, each]) => shape(name, each))));
  const links = [...main.querySelectorAll(".docs-group")].map((section) =>
    element("li", {}, element("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)),
  );
  document.getElementById("contents").append(element("ul", {}, ...links));
  document.getElementById("find").addEventListener("input", filter);
  addEventListener("hashchange", reveal);
  reveal();
}

show().catch((error) => {
  document.getElementById("operations").append(element("p", { class: "plain", role: "alert" }, `The description could not be read: ${error.message}`));
});
