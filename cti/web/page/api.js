// Requests to the server: the session's protection against forged requests, problems as errors, versions (ETags).

/** What the server refused, in the terms of RFC 9457; status 0: it was not reached. */
export class Problem extends Error {
  constructor(status, body = {}, retryAfter = null) {
    super(body.detail ?? "");
    this.status = status;
    this.body = body;
    this.kind = (body.type ?? "").split(":").pop();
    this.retryAfter = retryAfter;
  }
}

const PATIENCE = 15_000;
let csrf = null;
let whenExpired = () => {};

export function setCsrf(token) {
  csrf = token;
}

/** `callback` is told when the session is no longer good. */
export function onExpired(callback) {
  whenExpired = callback;
}

/** `{body, etag, status}` of the answer. Throws `Problem`. */
export async function ask(method, path, { body, etag, key, patience = PATIENCE } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrf !== null) headers["X-CSRF-Token"] = csrf;
  if (etag) headers["If-Match"] = etag;
  if (key) headers["Idempotency-Key"] = key;
  let answer;
  let text;
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(patience),
    });
    text = await answer.text();
  } catch {
    throw new Problem(0, { type: "unreachable", detail: "" });
  }
  const content = parsed(text);
  if (answer.ok) return { body: content, etag: answer.headers.get("ETag"), status: answer.status };
  const problem = new Problem(answer.status, content ?? {}, Number(answer.headers.get("Retry-After")) || null);
  // A wrong old password is no end of the session.
  if (answer.status === 401 && path !== "session" && problem.kind !== "wrong-login") whenExpired();
  throw problem;
}

/** A key by which the server knows a request that is sent a second time. */
export function newKey() {
  return crypto.randomUUID();
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
