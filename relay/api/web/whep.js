// Plays a stream by WHEP. Stays through a publisher's return and a worker's replacement;
// connects anew only when the session has really ended.

import { Failure } from "./http.js";
import { Session } from "./session.js";

const FIRST_WAIT = 300; // milliseconds
const LONGEST_WAIT = 8_000;
const SETTLED = 10_000; // a connection that held this long resets the waiting time

export class Player extends EventTarget {
  // Events: "connecting", "connected", "picture", "lost" (detail: reason, wait in ms).
  constructor(url, video) {
    super();
    this.url = url;
    this.video = video;
    this.session = null;
    this.stopped = true;
    this.wait = FIRST_WAIT;
    this.timer = null;
    this.since = 0;
    this.leave = () => this.stop();
  }

  start() {
    if (!this.stopped) return;
    this.stopped = false;
    addEventListener("pagehide", this.leave);
    this.#connect();
  }

  stop() {
    this.stopped = true;
    removeEventListener("pagehide", this.leave);
    clearTimeout(this.timer);
    this.session?.close();
    this.session = null;
    this.video.srcObject = null;
  }

  // The gateway was away, and answers again: it may be another one.
  check() {
    this.session?.check();
  }

  get pc() {
    return this.session?.pc ?? null;
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  async #connect() {
    this.#tell("connecting");
    const session = new Session(this.url, {
      onend: (reason) => this.#lost(session, reason),
      onconnected: () => {
        this.since = performance.now();
        this.#tell("connected");
      },
    });
    this.session = session;
    const media = new MediaStream();
    session.pc.addEventListener("track", ({ track, receiver }) => {
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      media.addTrack(track);
      this.#show(media, track);
    });
    for (const kind of ["video", "audio"]) {
      session.pc.addTransceiver(kind, { direction: "recvonly" });
    }
    try {
      await session.open(withStereo);
    } catch (error) {
      const failure = Failure.of(error);
      session.close();
      this.#lost(session, failure.code, (failure.retryAfter ?? 0) * 1000);
    }
  }

  #show(media, track) {
    if (track.kind !== "video") return;
    this.video.srcObject = media;
    const first = () => {
      if (this.video.srcObject === media) this.#tell("picture");
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(first);
    else this.video.addEventListener("loadeddata", first, { once: true });
    this.video.play().catch(() => {}); // muted video plays; where it may not, the button does
  }

  #lost(session, reason, atLeast = 0) {
    if (this.stopped || this.session !== session) return;
    this.session = null;
    if (this.since > 0 && performance.now() - this.since > SETTLED) this.wait = FIRST_WAIT;
    this.since = 0;
    const wait = Math.max(this.wait * (0.8 + 0.4 * Math.random()), atLeast);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    this.#tell("lost", { reason, wait });
    if (reason === "bad_name") return; // no waiting makes it a good one
    this.timer = setTimeout(() => this.#connect(), wait);
  }
}

// Browsers ask for mono unless told otherwise.
function withStereo(sdp) {
  return sdp.replace(/(a=fmtp:\d+ (?:[^\r\n]*;)?useinbandfec=1)(?![^\r\n]*stereo=)/g, "$1;stereo=1");
}
