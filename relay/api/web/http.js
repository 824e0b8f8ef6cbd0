// Requests to the gateway, and refusals that carry its stable code.

export class Failure extends Error {
  constructor(code, detail, { status = 0, retryAfter = null } = {}) {
    super(detail);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter; // seconds
  }

  // What the browser itself refused has no code of ours.
  static of(error) {
    return error instanceof Failure ? error : new Failure("browser", error.message);
  }
}

const TIMEOUT = 10_000; // milliseconds for an answer

export async function call(url, { key, timeout = TIMEOUT, headers = {}, ...options } = {}) {
  const all = new Headers(headers);
  if (key) all.set("Authorization", `Bearer ${key}`);
  let answer;
  try {
    answer = await fetch(url, {
      cache: "no-store",
      signal: AbortSignal.timeout(timeout),
      ...options,
      headers: all,
    });
  } catch (error) {
    throw new Failure("unreachable", `The gateway does not answer (${error.message}).`);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // no problem document: the status alone has to do
  }
  const wait = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return new Failure(told.code ?? `http_${answer.status}`, told.detail ?? answer.statusText, {
    status: answer.status,
    retryAfter: Number.isFinite(wait) ? wait : null,
  });
}

export async function getJson(url, key) {
  const answer = await call(url, { key });
  return answer.json();
}

// The status of one stream, or null when the gateway knows none of that name.
export async function streamStatus(name, key) {
  const told = await getJson(`/v1/streams?name=${encodeURIComponent(name)}`, key);
  return told.streams[0] ?? null;
}

// Calls back with the status every `interval` milliseconds, one request at a time, and tells with
// each whether it is the first one after a failure.
export function poll(name, keyOf, interval, callback) {
  let timer;
  let stopped = false;
  let failed = false;
  const turn = async () => {
    let status = null;
    let failure = null;
    try {
      status = await streamStatus(name, keyOf());
    } catch (error) {
      failure = error;
    }
    if (stopped) return;
    callback(status, failure, failed && failure === null);
    failed = failure !== null;
    timer = setTimeout(turn, interval);
  };
  turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

// Waits; a signal that aborts ends the waiting early.
export function sleep(milliseconds, signal = null) {
  return new Promise((done) => {
    if (signal?.aborted) return done();
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}
