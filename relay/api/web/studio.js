// The studio: a picture in, a picture out, and what happens on the way.

import { $ } from "./dom.js";
import { clearFigures, showFigures } from "./figures.js";
import { Form, Sender } from "./form.js";
import { call, Failure, getJson, poll, sleep } from "./http.js";
import { hush, over, pill, say } from "./notices.js";
import { cameras, openCamera, openClip } from "./source.js";
import { showReceiver } from "./receiver.js";
import { publish } from "./whip.js";
import { Player } from "./whep.js";
import * as words from "./words.js";

const STATUS_INTERVAL = 500;
const MODELS_INTERVAL = 5_000;
const MODELS_MISSED = 1_000; // while there are none
const RETURNS = [500, 1000, 2000, 4000, 8000]; // waits before publishing again after a loss

const keep = {
  get: (name, store = localStorage) => store.getItem(`relay.${name}`),
  set: (name, value, store = localStorage) => store.setItem(`relay.${name}`, value),
  drop: (name, store = localStorage) => store.removeItem(`relay.${name}`),
};

const app = {
  source: null, // {kind, stream, close}
  session: null,
  abort: null, // of the publication that is wanted; null when not live
  ours: false, // whether the gateway has taken this publication's name for us
  player: null,
  stopReceiver: null,
  stopPolling: null,
  models: new Map(),
  model: keep.get("model"),
  params: JSON.parse(keep.get("params", sessionStorage) ?? "{}"),
  pictures: {},
  losses: 0,
};

const form = new Form($("effects"), $("controls"), (values) => {
  showSettings();
  setParams({ ...app.params, ...values });
  if (app.session !== null) sender.push(values);
});

const sender = new Sender(async (values) => {
  try {
    await call(`/v1/streams/${encodeURIComponent(name())}`, {
      method: "PATCH",
      key: key(),
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(values),
    });
    hush("params");
  } catch (failure) {
    if (app.session !== null) say("params", words.refusal(failure), { tone: "bad" });
  }
});

const name = () => $("name").value.trim();
const key = () => $("key").value || null;

// ------------------------------------------------------------------ the source

async function useCamera() {
  hush("source");
  $("camera").disabled = true;
  try {
    const deviceId = $("device").value || null;
    closeSource();
    const stream = await openCamera({ deviceId, sound: $("microphone").checked });
    const close = () => stream.getTracks().forEach((track) => track.stop());
    $("input").srcObject = stream;
    await setSource({ kind: "camera", stream, close });
    stream.getVideoTracks()[0].addEventListener("ended", cameraGone);
    await listCameras(stream);
  } catch (error) {
    say("source", words.cameraTrouble(error), { tone: "bad" });
    over("input-over", "Choose your camera or a clip to begin.");
  } finally {
    $("camera").disabled = false;
  }
}

async function useClip(file) {
  hush("source");
  closeSource();
  try {
    const clip = await openClip(file, $("input"), $("microphone").checked);
    await setSource({ kind: "clip", ...clip });
  } catch {
    say("source", words.CLIP_TROUBLE, { tone: "bad" });
    over("input-over", "Choose your camera or a clip to begin.");
  }
}

async function setSource(source) {
  app.source = source;
  over("input-over", null);
  showSource();
  if (app.session === null) return;
  // Live already: the tracks are changed under the same session where that is possible.
  const senders = app.session.pc.getSenders();
  for (const kind of ["video", "audio"]) {
    const track = source.stream.getTracks().find((given) => given.kind === kind) ?? null;
    const found = senders.find((given) => given.track?.kind === kind || given.kind === kind);
    if (found) await found.replaceTrack(track);
  }
}

function closeSource() {
  app.source?.close();
  app.source = null;
  $("input").srcObject = null;
  showSource();
}

function cameraGone() {
  say("source", "The camera has gone. Plug it in again and press Camera, or choose a clip.", {
    tone: "bad",
  });
}

async function listCameras(stream) {
  const found = await cameras();
  const current = stream.getVideoTracks()[0].getSettings().deviceId;
  $("device-field").hidden = found.length < 2;
  $("device").replaceChildren(
    ...found.map(({ deviceId, label }, index) => {
      const option = new Option(label || `Camera ${index + 1}`, deviceId);
      option.selected = deviceId === current;
      return option;
    }),
  );
}

function showSource() {
  const kind = app.source?.kind;
  $("camera").setAttribute("aria-pressed", String(kind === "camera"));
  $("clip-button").dataset.on = String(kind === "clip");
  $("go").disabled = app.abort === null && app.source === null;
}

// ------------------------------------------------------------------ going live

async function goLive({ again = false } = {}) {
  if (app.source === null) return;
  for (const topic of ["publish", "params", "stream"]) hush(topic);
  keep.set("name", name());
  if (key()) keep.set("key", key(), sessionStorage);
  app.abort = new AbortController();
  app.losses = 0;
  showLive();
  over("output-over", "Connecting", { spin: true });
  await publishOnce(app.abort.signal, again);
}

async function publishOnce(signal, again) {
  pill(words.STATES.connecting);
  const query = new URLSearchParams();
  if (app.model) query.set("pipeline", app.model);
  if (Object.keys(app.params).length > 0) query.set("params", JSON.stringify(app.params));
  try {
    app.session = await publish(`/whip/${encodeURIComponent(name())}?${query}`, app.source.stream, {
      key: key(),
      again,
      signal,
      onend: (reason, session) => publicationLost(reason, session, signal),
      onconnected: () => (app.losses = 0),
      onwait: (failure, seconds) => say("publish", words.waitWords(failure, seconds)),
    });
  } catch (failure) {
    if (!signal.aborted) publicationRefused(failure);
    return;
  }
  hush("publish");
  app.ours = true;
  showLive();
  keep.set("live", app.source.kind, sessionStorage);
  stayAwake();
  watchOutput();
}

// A phone whose screen goes dark stops its camera.
async function stayAwake() {
  if (app.abort === null || document.visibilityState !== "visible") return;
  try {
    const lock = await navigator.wakeLock.request("screen");
    app.abort?.signal.addEventListener("abort", () => lock.release(), { once: true });
  } catch {
    // low battery, or a browser that has no such thing
  }
}

function publicationRefused(failure) {
  if (failure.code.startsWith("key_")) {
    $("key-field").hidden = false;
    $("key").focus();
  }
  if (failure.code === "bad_params") {
    setParams({}); // left over from another version of the model
    showModel();
  }
  endLive();
  const taken = failure.code === "name_taken";
  if (taken || failure.code === "bad_name") $("name").focus();
  const action = taken ? { title: "Try again", run: () => goLive() } : null;
  say("publish", words.refusal(failure), { tone: "bad", action });
}

async function publicationLost(reason, session, signal) {
  app.session = null;
  if (signal.aborted) return;
  const told = await lastWord(session);
  if (signal.aborted) return;
  const wait = RETURNS[app.losses];
  if (told !== null || wait === undefined) {
    endLive();
    say("publish", told ?? words.lossWords(reason), {
      tone: "bad",
      action: { title: "Go live again", run: () => goLive() },
    });
    return;
  }
  app.losses += 1;
  pill(["connecting again", "busy"]);
  say("publish", `Your stream was cut off. ${words.lossWords(reason)}`);
  await sleep(wait, signal);
  if (!signal.aborted) await publishOnce(signal, true);
}

// Why the gateway ended it, when it was the gateway.
async function lastWord(session) {
  if ((await session.lastWord()) === "stream_stopped") return words.STOPPED;
  try {
    const told = await getJson(`/v1/streams?name=${encodeURIComponent(name())}`, key());
    const status = told.streams[0];
    if (status === undefined) return null;
    if (status.input?.connected) {
      return "Somebody else has taken over this name. Choose another one to go live again.";
    }
    return status.state === "failed" && status.reason ? status.reason : null;
  } catch {
    return null;
  }
}

function endLive() {
  app.abort?.abort();
  app.abort = null;
  app.ours = false;
  app.session?.close();
  app.session = null;
  app.player?.stop();
  app.player = null;
  app.stopPolling?.();
  app.stopPolling = null;
  app.stopReceiver?.();
  app.stopReceiver = null;
  keep.drop("live", sessionStorage);
  pill(["not live", ""]);
  over("output-over", "Go live to see your picture changed.");
  clearFigures();
  showLive();
}

function showLive() {
  const live = app.abort !== null;
  $("page").dataset.live = String(live);
  $("go").textContent = live ? "Stop" : "Go live";
  $("go").dataset.live = String(live);
  $("name").readOnly = live;
  $("share").hidden = !app.ours;
  $("sound").hidden = !live;
  $("link").value = `${location.origin}/watch/${encodeURIComponent(name())}`;
  $("open").href = $("link").value;
  $("whip").textContent = `${location.origin}/whip/${encodeURIComponent(name())}`;
  $("figures").hidden = !live;
  $("no-figures").hidden = live;
  showSource();
}

// ------------------------------------------------------------------ what comes back

function watchOutput() {
  if (app.player !== null) return;
  const player = new Player(`/whep/${encodeURIComponent(name())}`, $("output"));
  app.player = player;
  player.addEventListener("picture", () => player.showed || (player.showed = true));
  player.addEventListener("lost", ({ detail }) => {
    player.showed = false;
    over("output-over", words.lossWords(detail.reason), { spin: true });
  });
  player.start();
  app.stopReceiver = showReceiver(player);
  app.stopPolling = poll(name(), key, STATUS_INTERVAL, showStatus);
}

function showStatus(status, failure, back) {
  if (app.abort === null) return;
  if (back) {
    app.session?.check();
    app.player?.check();
  }
  if (failure !== null) {
    if (failure.code === "unreachable") {
      say("gateway", words.refusal(failure), { tone: "bad" });
      pill(["gateway away", "bad"]);
      clearFigures(); // of before, as is what stands still
      over("output-over", words.lossWords(failure.code), { spin: true, light: app.player?.showed });
    }
    return;
  }
  hush("gateway");
  if (status === null) return;
  pill(words.pillWords(status));
  const text = words.outputWords(status);
  if (text !== null) {
    over("output-over", text, { spin: status.state !== "failed", light: app.player?.showed });
  } else {
    over("output-over", app.player?.showed ? null : "Waiting for the first picture", { spin: true });
  }
  const told = status.reason || status.warnings?.[0]?.reason;
  const coming = status.state === "connecting" || status.reason_code === "no_publisher";
  const trouble = told && !coming ? told : null;
  if (status.runner_error) say("runner", `The model says: ${status.runner_error}`, { tone: "bad" });
  else hush("runner");
  if (trouble) say("stream", trouble, { tone: status.state === "failed" ? "bad" : "" });
  else hush("stream");
  if (status.params !== null && !sender.busy) {
    form.take(status.params);
    showSettings();
  }
  showFigures(status);
}

// ------------------------------------------------------------------ models and their parameters

async function loadModels() {
  let models;
  try {
    ({ models } = await getJson("/v1/models"));
  } catch {
    return; // the status poll tells of a gateway that is away
  }
  const told = JSON.stringify(models);
  if (told === loadModels.last) return;
  loadModels.last = told;
  const before = app.models.get(app.model);
  app.models = new Map(models.map((offer) => [offer.model, offer]));
  if (models.length === 0) {
    say("models", "No orchestrator answers yet. Check gateway.orchestrators in the settings; looking again…");
  } else {
    hush("models");
  }
  if (!app.models.has(app.model) && app.abort === null) {
    app.model = app.models.has(app.standard) ? app.standard : (models[0]?.model ?? app.standard);
  }
  $("model-field").hidden = models.length < 2;
  $("model").replaceChildren(
    ...models.map(({ model }) => new Option(model, model, false, model === app.model)),
  );
  const now = app.models.get(app.model);
  if (JSON.stringify(before) !== JSON.stringify(now) || before === undefined) showModel();
}

function setParams(params) {
  app.params = params;
  keep.set("params", JSON.stringify(params), sessionStorage);
}

function showModel() {
  const offer = app.models.get(app.model);
  if (offer === undefined) form.clear();
  else form.show(offer.params_schema, app.params, app.pictures[app.model] ?? {});
  showSettings();
}

function showSettings() {
  $("settings").hidden = !form.hasSettings;
  $("defaults").hidden = !form.hasDefaults;
}

async function chooseModel() {
  app.model = $("model").value;
  setParams({});
  keep.set("model", app.model);
  showModel();
  if (app.session === null) return;
  try {
    await call(`/v1/streams/${encodeURIComponent(name())}/model`, {
      method: "POST",
      key: key(),
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: app.model, params: {} }),
    });
    hush("params");
  } catch (failure) {
    say("params", words.refusal(failure), { tone: "bad" });
  }
}

// ------------------------------------------------------------------ the page

function inventName() {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const random = crypto.getRandomValues(new Uint8Array(10));
  return `studio-${[...random].map((byte) => letters[byte % letters.length]).join("")}`;
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText($("link").value);
  } catch {
    $("link").select();
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
}

function toggleSound() {
  const muted = !$("output").muted;
  $("output").muted = muted;
  $("sound").textContent = muted ? "Unmute" : "Mute";
}

function connectControls() {
  $("camera").addEventListener("click", useCamera);
  $("device").addEventListener("change", useCamera);
  $("clip").addEventListener("change", () => $("clip").files[0] && useClip($("clip").files[0]));
  $("microphone").addEventListener("change", () => app.source?.kind === "camera" && useCamera());
  $("bar").addEventListener("submit", (event) => {
    event.preventDefault();
    if (app.abort === null) goLive();
    else endLive();
  });
  $("name").addEventListener("input", showLive);
  $("model").addEventListener("change", chooseModel);
  $("defaults").addEventListener("click", () => form.reset());
  $("copy").addEventListener("click", copyLink);
  $("link").addEventListener("focus", () => $("link").select());
  $("sound").addEventListener("click", toggleSound);
  document.addEventListener("visibilitychange", stayAwake);
  addEventListener("pagehide", () => {
    app.session?.close();
    app.player?.stop();
  });
}

async function begin() {
  $("name").value = keep.get("name") ?? inventName();
  $("key").value = keep.get("key", sessionStorage) ?? "";
  connectControls();
  showLive();
  try {
    const [about, pictures] = await Promise.all([
      getJson("/v1/gateway"),
      getJson("/web/effects/index.json"),
    ]);
    app.standard = about.default_model;
    app.model ??= about.default_model;
    app.pictures = pictures;
    $("key-field").hidden = !about.needs_publish_key;
    if (about.draining) say("gateway", words.refusal(new Failure("draining", "")), { tone: "bad" });
  } catch (failure) {
    say("gateway", words.refusal(failure), { tone: "bad" });
  }
  await loadModels();
  goOn();
  for (;;) {
    await sleep(app.models.size > 0 ? MODELS_INTERVAL : MODELS_MISSED);
    await loadModels();
  }
}

// A page that was loaded anew while it was live goes on by itself.
async function goOn() {
  const before = keep.get("live", sessionStorage);
  if (before === null) return;
  keep.drop("live", sessionStorage);
  if (before !== "camera") {
    say("source", "Choose the clip again to go on.");
    return;
  }
  await useCamera();
  if (app.source !== null) await goLive({ again: true });
}

begin();
