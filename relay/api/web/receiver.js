// What this page's own player receives, beside what the gateway says it sent it.

import { $ } from "./dom.js";
import { getJson } from "./http.js";

const INTERVAL = 1_000;

// Begins to show both under the figures; returns what ends that.
export function showReceiver(player) {
  let before = null;
  const timer = setInterval(async () => {
    const session = player.session;
    if (session === null || session.location === null) return clear();
    const [here, sent] = await Promise.all([ofBrowser(session.pc), ofGateway(session.location)]);
    if (here !== null) {
      const same = before?.session === session ? before.here : null;
      $("received").textContent = receivedWords(here, same);
      before = { session, here };
    }
    if (sent !== null) $("sent").textContent = sentWords(sent);
  }, INTERVAL);
  return () => {
    clearInterval(timer);
    clear();
  };
}

function clear() {
  $("received").textContent = "–";
  $("sent").textContent = "–";
}

async function ofBrowser(pc) {
  const reports = await pc.getStats();
  return [...reports.values()].find(({ type, kind }) => type === "inbound-rtp" && kind === "video") ?? null;
}

// The last part of the session's address is its secret, and the right to ask.
async function ofGateway(location) {
  try {
    return await getJson(`/v1/viewers/${location.pathname.split("/").at(-1)}`);
  } catch {
    return null; // the session is ending; the player says so
  }
}

function receivedWords(here, before) {
  const seconds = before === null ? 0 : (here.timestamp - before.timestamp) / 1000;
  const shown = seconds > 0 ? (here.framesDecoded - before.framesDecoded) / seconds : null;
  const waits = before === null ? here : since(here, before);
  const buffer = waits.jitterBufferEmittedCount
    ? (waits.jitterBufferDelay / waits.jitterBufferEmittedCount) * 1000
    : null;
  return [
    shown === null ? null : `${shown.toFixed(0)} fps`,
    `${here.packetsReceived} packets`,
    `${here.packetsLost} lost`,
    buffer === null ? null : `buffer ${buffer.toFixed(0)} ms`,
    here.freezeCount ? `froze ${here.freezeCount}×` : null,
  ]
    .filter((part) => part !== null)
    .join(" · ");
}

function since(here, before) {
  return {
    jitterBufferDelay: here.jitterBufferDelay - before.jitterBufferDelay,
    jitterBufferEmittedCount: here.jitterBufferEmittedCount - before.jitterBufferEmittedCount,
  };
}

function sentWords({ packets, resent, fraction_lost: lost, round_trip_ms: trip, estimate, queue_ms: queue }) {
  return [
    `${packets} packets`,
    `${resent} again`,
    `${(lost * 100).toFixed(1)} % reported lost`,
    trip === null ? null : `round trip ${trip.toFixed(1)} ms`,
    estimate === null ? null : `path ${(estimate / 1e6).toFixed(1)} Mbit/s`,
    queue === null ? null : `queue ${queue.toFixed(1)} ms`,
  ]
    .filter((part) => part !== null)
    .join(" · ");
}
