// Everything that can go wrong, in words that say what to do about it.

const REFUSALS = {
  unreachable: "The gateway does not answer. Is it running? Check the address and your network.",
  no_h264:
    "This browser does not send H.264 video. Use Chrome, Edge or Safari; in Firefox switch the OpenH264 plug-in on.",
  no_common_codec: "Browser and gateway have no codec in common. Use a current Chrome, Edge or Safari.",
  name_taken:
    "This name is taken: somebody else is live under it. Choose another one, or try again when that stream has ended.",
  bad_name:
    "This name cannot be an address. Use letters, digits, - and _ only, and do not end it with -out.",
  key_required: "This gateway asks for a publish key. Type it in the field “Publish key”.",
  key_unknown: "The gateway does not know this publish key. Check it and go live again.",
  draining: "This gateway is going away. Try again in a moment, or use another one.",
  unavailable: "No capacity: the gateway carries as much as it may. Try again in a while.",
  busy: "The gateway is busy. Trying again…",
  cross_origin:
    "This address is not the gateway's own. Open the page under the address that the gateway printed, or set gateway.public_url.",
  stream_not_found: "The stream has ended. Go live again.",
  stream_not_live: "The stream is not live any more. Go live again.",
  internal: "The gateway failed. Its log tells more under the number given here:",
};

// Codes whose own text is the most helpful part.
const WITH_DETAIL = new Set(["internal", "bad_params"]);

export function refusal(failure) {
  const known = REFUSALS[failure.code];
  if (known === undefined) return failure.message || "Something went wrong; try again.";
  return WITH_DETAIL.has(failure.code) ? `${known} ${failure.message}` : known;
}

export function waitWords(failure, seconds) {
  const known = failure.code === "name_taken" ? STILL_TAKEN : refusal(failure);
  return `${known} Trying again in ${seconds} s…`;
}

const STILL_TAKEN = "This name is taken still, perhaps by your own stream that was cut off.";

export function cameraTrouble(error) {
  switch (error?.name) {
    case "Insecure":
      return (
        "Browsers show a camera to secure pages only. On the gateway's own machine open " +
        `http://localhost:${location.port || 80}/; for other devices start the gateway with TLS ` +
        "(RELAY_GATEWAY__TLS__SELF_SIGNED=true) and open it with https://."
      );
    case "NotAllowedError":
      return (
        "The camera is blocked. Allow it with the sign beside the address bar (and in the " +
        "system's privacy settings), then press Camera again. A clip works without."
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found. Plug one in and press Camera again, or choose a clip.";
    case "NotReadableError":
    case "AbortError":
      return "Another program holds the camera. Close it there and press Camera again.";
    default:
      return `The camera does not start (${error?.name ?? "unknown"}). Press Camera again, or choose a clip.`;
  }
}

export const CLIP_TROUBLE = "This browser cannot play that file. Choose an MP4 or WebM clip.";

export const STOPPED = "The stream was stopped at the gateway.";

// The pill at the top: [words, tone].
export function pillWords(status) {
  if (status.state === "failed" && status.swaps > 0) return STATES.switching;
  return STATES[status.state] ?? [status.state, ""];
}

export const STATES = {
  waiting: ["waiting for you", "busy"],
  connecting: ["connecting", "busy"],
  starting: ["finding a worker", "busy"],
  live: ["live", "good"],
  switching: ["switching worker", "busy"],
  failed: ["no worker", "bad"],
  ended: ["ended", ""],
};

// What stands over the output while it does not flow. Null: nothing does.
export function outputWords(status) {
  switch (status?.state) {
    case "waiting":
      return status.reason_code === "no_publisher"
        ? "Waiting for the stream: nobody publishes it"
        : "Waiting for the stream";
    case "connecting":
      return "Waiting for the first picture";
    case "starting":
      return "Finding a worker";
    case "switching":
      return "Switching worker";
    case "failed":
      // Once it was served, the one who waits cares that it comes back, not that none is free yet.
      return status.swaps > 0
        ? "Switching worker: none is free yet"
        : `No worker can take this now: ${status.reason || "trying again"}`;
    case "ended":
      return "The stream has ended";
    default:
      return isSilent(status) ? "The picture stands still: its streamer sends nothing" : null;
  }
}

function isSilent(status) {
  return Boolean(status?.warnings?.some((warning) => warning.code === "input_silent"));
}

// `before`: the last status that was told; a gateway that was going away has gone since.
export function lossWords(reason, before = null) {
  if (before?.reason_code === "draining" && reason !== "draining") {
    return "This gateway has gone away. Trying again…";
  }
  if (reason === "unreachable") return "The gateway does not answer. Trying again…";
  if (reason === "never connected") {
    return "The media connection does not come up: the gateway's UDP port cannot be reached. Trying again…";
  }
  if (reason === "bad_name") return "There can be no stream of this name. Check the address.";
  if (reason === "draining") return "This gateway is going away. Trying again…";
  return "Connecting again…";
}
