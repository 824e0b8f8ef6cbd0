// What the studio says: one notice, the pill at the top, and words over a picture.

import { $ } from "./dom.js";

const notices = new Map();

// One notice at a time is shown: the newest of those that still hold.
export function say(topic, text, { tone = "", action = null } = {}) {
  notices.delete(topic);
  notices.set(topic, { text, tone, action });
  showNotice();
}

export function hush(topic) {
  if (notices.delete(topic)) showNotice();
}

function showNotice() {
  const last = [...notices.values()].at(-1);
  $("notice").hidden = last === undefined;
  if (last === undefined) return;
  $("notice").dataset.tone = last.tone;
  $("notice-text").textContent = last.text;
  $("notice-button").hidden = last.action === null;
  $("notice-button").textContent = last.action?.title ?? "";
  $("notice-button").onclick = last.action?.run ?? null;
}

export function pill([text, tone]) {
  if ($("state").textContent === text) return;
  $("state").textContent = text;
  $("state").dataset.tone = tone;
}

export function over(id, text, { spin = false, light = false } = {}) {
  const box = $(id);
  box.hidden = text === null;
  box.classList.toggle("spin", spin && !light);
  box.dataset.light = light;
  if (text !== null && box.textContent !== text) box.textContent = text;
}
