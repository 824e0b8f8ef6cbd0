// The watch page: the stream, and in words why there is none.

import { $ } from "./dom.js";
import { poll } from "./http.js";
import { Player } from "./whep.js";
import * as words from "./words.js";

const STATUS_INTERVAL = 500;

const name = decodeURIComponent(location.pathname.split("/").at(-1));
const video = $("video");
const player = new Player(`/whep/${encodeURIComponent(name)}`, video);

const seen = { picture: false, status: null, loss: null };

$("title").textContent = name;
document.title = `${name} – relay`;

function show() {
  const [text, spin] = told();
  const box = $("over");
  box.hidden = text === null;
  box.classList.toggle("spin", spin && !seen.picture);
  box.dataset.light = String(seen.picture); // the last picture stays in sight
  if (text !== null && box.textContent !== text) box.textContent = text;
  $("sound").hidden = !(seen.picture && video.muted);
}

function told() {
  if (seen.loss !== null) return [words.lossWords(seen.loss, seen.status), true];
  const text = words.outputWords(seen.status);
  if (text !== null) return [text, seen.status.state !== "failed"];
  return seen.picture ? [null, false] : ["Waiting for the stream", true];
}

player.addEventListener("connected", () => {
  seen.loss = null;
  show();
});
player.addEventListener("picture", () => {
  seen.picture = true;
  show();
});
player.addEventListener("lost", ({ detail }) => {
  seen.picture = false;
  seen.loss = detail.reason;
  show();
});

$("sound").addEventListener("click", () => {
  video.muted = false;
  video.play().catch(() => {
    video.muted = true; // the browser wants another click
  });
  show();
});
video.addEventListener("volumechange", show);

const full = $("full");
full.hidden = !(document.fullscreenEnabled || video.webkitEnterFullscreen);
full.addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (document.fullscreenEnabled) document.documentElement.requestFullscreen();
  else video.webkitEnterFullscreen();
});
document.addEventListener("fullscreenchange", () => {
  full.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
});

poll(name, () => null, STATUS_INTERVAL, (status, failure, back) => {
  if (back) player.check();
  seen.status = failure === null ? status : seen.status;
  show();
});
player.start();
