// Publishes a MediaStream by WHIP (RFC 9725).

import { Failure, sleep } from "./http.js";
import { Session } from "./session.js";

const BITRATE = 2_500_000;
const HEIGHT = 720; // more would cost the worker more than its budget of a frame
const PATIENCE = 15; // seconds that a busy gateway is asked again
const OWN = 3; // seconds that a name is waited for which our own lost session may hold still

// Throws Failure when the gateway refuses. Resolves to a Session.
//   again: we were live under this name a moment ago.
//   onwait(failure, seconds): the gateway says "later", and we will.
export async function publish(url, stream, { key, again, onend, onconnected, onwait, signal }) {
  let refused = null; // when first
  for (;;) {
    const session = new Session(url, { key, onend, onconnected });
    signal?.addEventListener("abort", () => session.close(), { once: true });
    try {
      addTracks(session.pc, stream);
      await session.open();
      await favourResolution(session.pc);
      return session;
    } catch (error) {
      session.close();
      if (signal?.aborted) throw new Failure("stopped", "Stopped.");
      const failure = Failure.of(error);
      const wait = failure.retryAfter;
      if (wait === null) throw failure;
      const patience = failure.code !== "name_taken" ? PATIENCE : again ? OWN : 0;
      refused ??= performance.now();
      if (performance.now() + wait * 1000 > refused + patience * 1000) throw failure;
      onwait?.(failure, wait);
      await sleep(wait * 1000, signal);
      if (signal?.aborted) throw new Failure("stopped", "Stopped.");
    }
  }
}

function addTracks(pc, stream) {
  for (const track of stream.getTracks()) {
    const video = track.kind === "video";
    const encoding = video ? { maxBitrate: BITRATE, ...scaleOf(track) } : {};
    const transceiver = pc.addTransceiver(track, {
      direction: "sendonly",
      streams: [stream],
      sendEncodings: [encoding],
    });
    if (video) transceiver.setCodecPreferences(h264());
  }
}

function h264() {
  const all = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  const wanted = all.filter(({ mimeType }) => mimeType.toLowerCase() === "video/h264");
  if (wanted.length === 0) throw new Failure("no_h264", "This browser does not send H.264.");
  // Single pictures in one packet (mode 0) come last: most encoders never use them well.
  const mode = ({ sdpFmtpLine = "" }) => (sdpFmtpLine.includes("packetization-mode=1") ? 0 : 1);
  wanted.sort((one, other) => mode(one) - mode(other));
  const repair = all.filter(({ mimeType }) => mimeType.toLowerCase() === "video/rtx");
  return [...wanted, ...repair];
}

function scaleOf(track) {
  const { width = 0, height = 0 } = track.getSettings();
  const short = Math.min(width, height);
  return short > HEIGHT ? { scaleResolutionDownBy: short / HEIGHT } : {};
}

// Rather fewer frames for a moment than a small picture: effects show in detail.
async function favourResolution(pc) {
  for (const sender of pc.getSenders()) {
    if (sender.track?.kind !== "video") continue;
    const parameters = sender.getParameters();
    parameters.degradationPreference = "maintain-resolution";
    try {
      await sender.setParameters(parameters);
    } catch {
      // browsers without the setting choose for themselves
    }
  }
}
