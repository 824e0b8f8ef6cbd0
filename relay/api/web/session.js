// What WHIP and WHEP share: one offer, a secret session address, trickled candidates,
// ICE restart, and knowing for certain when the session has ended.

import { call, Failure } from "./http.js";

const FRAGMENT = "application/trickle-ice-sdpfrag";
const BATCH = 20; // milliseconds that candidates are gathered into one PATCH
const CONNECT = 12_000; // milliseconds until a connection that does not come up is given up
const SILENCE = 1_500; // milliseconds of "disconnected" before ICE is restarted

export class Session {
  // `onend(reason, session)` is called once: "closed", "gone", "failed" or "never connected".
  constructor(url, { key, onend, onconnected = () => {} }) {
    this.url = new URL(url, location.href);
    this.key = key;
    this.onend = onend;
    this.onconnected = onconnected;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.location = null;
    this.etag = null;
    this.ended = false;
    this.candidates = [];
    this.sent = 0;
    this.done = false;
    this.timers = new Map();
    this.restarting = false;
    this.pc.addEventListener("icecandidate", ({ candidate }) => this.#gathered(candidate));
    this.pc.addEventListener("connectionstatechange", () => this.#changed());
  }

  // Sends the offer at once, without waiting for candidates. Throws Failure.
  async open(changeOffer = (sdp) => sdp) {
    await this.pc.setLocalDescription();
    const answer = await call(this.url, {
      method: "POST",
      key: this.key,
      headers: { "Content-Type": "application/sdp" },
      body: changeOffer(this.pc.localDescription.sdp),
    });
    const sdp = await answer.text();
    const where = answer.headers.get("Location");
    if (where !== null) this.location = new URL(where, answer.url);
    this.etag = answer.headers.get("ETag");
    if (this.ended) {
      this.#leave();
      throw new Failure("stopped", "Stopped.");
    }
    const iceServers = parseLinks(answer.headers.get("Link"));
    if (iceServers.length > 0) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    this.#after("connect", CONNECT, () => this.#end("never connected"));
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    for (const { sender, receiver } of this.pc.getTransceivers()) {
      const transport = sender.transport ?? receiver.transport;
      transport?.addEventListener("statechange", () => {
        if (transport.state === "closed" || transport.state === "failed") this.#end("closed");
      });
    }
    this.#flushSoon();
    return answer;
  }

  // Ends it: says so to the gateway, and to nobody else.
  close() {
    if (this.ended) return;
    this.#stop();
    this.#leave();
  }

  // Asks the gateway whether it knows the session still: one that was started again does not, and
  // our connection would find that out by silence, seconds later.
  async check() {
    if (this.ended || this.location === null) return;
    try {
      await call(this.location, { key: this.key });
    } catch (error) {
      if (error.status === 404) this.#end("gone");
    }
  }

  // After its end: the code under which the gateway refuses it now, or null.
  async lastWord() {
    if (this.location === null) return null; // it was we who left
    try {
      await call(this.location, { key: this.key });
      return null;
    } catch (failure) {
      return failure.code;
    }
  }

  #end(reason) {
    if (this.ended) return;
    this.#stop();
    // A gateway that closed it has forgotten it already.
    if (reason === "closed" || reason === "gone") this.pc.close();
    else this.#leave();
    this.onend(reason, this);
  }

  #stop() {
    this.ended = true;
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  // The connection is closed last: else its own farewell would overtake the DELETE.
  #leave() {
    const location = this.location;
    this.location = null;
    if (location === null) {
      this.pc.close();
      return;
    }
    const headers = this.key ? { Authorization: `Bearer ${this.key}` } : {};
    fetch(location, { method: "DELETE", headers, keepalive: true })
      .catch(() => {})
      .finally(() => this.pc.close());
  }

  #after(name, delay, action) {
    clearTimeout(this.timers.get(name));
    this.timers.set(name, setTimeout(action, delay));
  }

  #changed() {
    if (this.ended) return;
    const state = this.pc.connectionState;
    if (state === "connected") {
      clearTimeout(this.timers.get("connect"));
      clearTimeout(this.timers.get("silence"));
      this.restarting = false;
      this.onconnected();
    } else if (state === "disconnected") {
      this.#after("silence", SILENCE, () => this.restart());
    } else if (state === "failed") {
      this.restart();
    } else if (state === "closed") {
      this.#end("closed");
    }
  }

  // ------------------------------------------------------------------ trickle

  #gathered(candidate) {
    if (this.ended) return;
    if (candidate !== null && candidate.candidate !== "") {
      this.candidates.push(candidate.candidate);
    } else {
      this.done = true;
    }
    this.#flushSoon();
  }

  #flushSoon() {
    if (this.location !== null) this.#after("flush", BATCH, () => this.#flush());
  }

  async #flush() {
    if (this.ended || (this.sent === this.candidates.length && !this.done)) return;
    const fresh = this.candidates.slice(this.sent);
    const last = this.done;
    this.sent = this.candidates.length;
    this.done = false;
    try {
      await this.#patch(fragment(this.pc.localDescription.sdp, fresh, last), this.etag);
    } catch (error) {
      // The gateway learns addresses from our checks too, so only its word that the
      // session is gone matters here.
      if (error.status === 404) this.#end("gone");
    }
  }

  #patch(body, tag) {
    return call(this.location, {
      method: "PATCH",
      key: this.key,
      headers: { "Content-Type": FRAGMENT, "If-Match": tag ?? "*" },
      body,
    });
  }

  // ------------------------------------------------------------------ restart

  // Tries new ICE credentials on the same session: a phone that changes its network goes on.
  async restart() {
    if (this.ended || this.restarting || this.location === null) return;
    this.restarting = true;
    this.#after("connect", CONNECT, () => this.#end("failed"));
    try {
      this.candidates = [];
      this.sent = 0;
      await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: true }));
      const local = this.pc.localDescription.sdp;
      const answer = await this.#patch(fragment(local, [], false), "*");
      const told = await answer.text();
      this.etag = answer.headers.get("ETag") ?? this.etag;
      const sdp = withNewIce(this.pc.currentRemoteDescription.sdp, told);
      if (this.ended) return;
      await this.pc.setRemoteDescription({ type: "answer", sdp });
      this.#flushSoon();
      this.#changed(); // a connection that never went down tells nothing more
    } catch (error) {
      if (error.status === 404) this.#end("gone");
      else if (error.code !== "unreachable") this.#end("failed");
      else {
        this.restarting = false;
        this.#after("silence", SILENCE, () => this.restart());
      }
    }
  }
}

// ------------------------------------------------------------------ SDP, as text

const lines = (sdp) => sdp.split(/\r?\n/);
const find = (sdp, start) => lines(sdp).find((line) => line.startsWith(start));

// An RFC 8840 fragment for the one transport, tied to the first section.
function fragment(sdp, candidates, last) {
  const media = find(sdp, "m=") ?? "m=video 9 UDP/TLS/RTP/SAVPF 0";
  const parts = [
    find(sdp, "a=ice-ufrag:"),
    find(sdp, "a=ice-pwd:"),
    media,
    find(sdp, "a=mid:"),
    ...candidates.map((candidate) => `a=${candidate}`),
  ];
  if (last) parts.push("a=end-of-candidates");
  return parts.filter(Boolean).map((line) => `${line}\r\n`).join("");
}

function withNewIce(remote, told) {
  const ufrag = find(told, "a=ice-ufrag:");
  const pwd = find(told, "a=ice-pwd:");
  const candidates = lines(told).filter((line) => line.startsWith("a=candidate:"));
  const out = [];
  for (const line of lines(remote)) {
    if (line.startsWith("a=candidate:") || line.startsWith("a=end-of-candidates")) continue;
    if (line.startsWith("a=ice-ufrag:")) out.push(ufrag);
    else if (line.startsWith("a=ice-pwd:")) out.push(pwd, ...candidates);
    else out.push(line);
  }
  return out.join("\r\n");
}

function parseLinks(header) {
  const servers = [];
  for (const link of (header ?? "").split(/,\s*(?=<)/)) {
    const address = /^<((?:stun|turn)s?:[^>]+)>/.exec(link);
    if (address === null || !/rel="?ice-server"?/.test(link)) continue;
    const value = (name) =>
      new RegExp(`${name}="((?:[^"\\\\]|\\\\.)*)"`).exec(link)?.[1].replace(/\\(.)/g, "$1");
    const server = { urls: address[1] };
    if (value("username") !== undefined) {
      server.username = value("username");
      server.credential = value("credential");
    }
    servers.push(server);
  }
  return servers;
}
