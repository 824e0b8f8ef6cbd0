// The studio's figures: delay, rates, and who does the work.

import { $ } from "./dom.js";

const number = (value, digits = 0) => value.toFixed(digits);
const megabits = (bits) => `${number(bits / 1e6, 1)} Mbit/s`;
const size = ({ width, height }) => (width ? `${width}×${height}` : "");

export function showFigures({ input, output, serving, swaps, viewers }) {
  const delay = output?.delay;
  $("delay").textContent = delay ? `${number(delay.p50_ms)} ms` : "–";
  $("delay-more").textContent = delay
    ? `added by relay (95 of 100 frames under ${number(delay.p95_ms)} ms)`
    : "added by relay";
  $("in").textContent = input
    ? `${size(input)} · ${number(input.fps)} fps · ${megabits(input.bitrate)}${input.has_audio ? " · sound" : ""}`
    : "–";
  $("out").textContent = output
    ? `${size(output)} · ${number(output.fps)} fps · ${megabits(output.bitrate)}`
    : "–";
  $("input-figures").textContent = input?.width ? `${size(input)} · ${number(input.fps)} fps` : "";
  $("output-figures").textContent =
    output?.width && delay
      ? `${size(output)} · ${number(output.fps)} fps · +${number(delay.p50_ms)} ms`
      : "";
  $("worker").textContent = serving ? `${serving.model} at ${serving.orchestrator}` : "–";
  $("why").textContent = serving ? `${serving.why} (joined in ${number(serving.connect_ms)} ms)` : "–";
  $("swaps").textContent = swaps === 0 ? "never" : swaps === 1 ? "once" : `${swaps} times`;
  $("viewers").textContent = String(viewers);
}

export function clearFigures() {
  for (const id of ["delay", "in", "out", "worker", "why", "swaps", "viewers"]) {
    $(id).textContent = "–";
  }
  $("delay-more").textContent = "added by relay";
  $("input-figures").textContent = "";
  $("output-figures").textContent = "";
}
