// Makes the form quicker: photos are captioned as soon as they are chosen, taken, dropped or pasted, one card each.
import { placeOf, setAttention } from "./attention.js";
import "./copying.js";
import { byId, copyOf, percent, put, say, slot } from "./elements.js";

const AT_ONCE = 2; // requests under way; the service has places for others, too
const ATTEMPTS = 8; // when the service is full it says when to come back
const HOPELESS = /:(request-too-large|image-too-large|unsupported-format|unreadable-image)$/; // the photo's own fault
const KEY = "captioner-key"; // its name in the storage of this tab, which ends with the tab

const root = document.documentElement;
const form = byId("form");
const inputs = [byId("image"), byId("camera")];
const results = byId("results");
const submit = byId("submit");
const keyForm = byId("key-form");
const photos = []; // {file, card, state, hopeless, stop}: `stop` aborts the question about the photo that is under way
let queue = []; // of photos, those that no request has begun with
let round = []; // the photos that were asked about since the page last had nothing to do
let running = 0;

root.classList.add("scripted");
submit.hidden = true;
submit.textContent = "Caption again";
inputs[0].required = false;

// Asking

function add(files) {
  const added = [...files].map((file) => ({ file, card: newCard(file), state: "", stop: new AbortController() }));
  if (added.length === 0) return;
  for (const photo of added) {
    slot(photo.card, "action").addEventListener("click", () => (photo.state === "waiting" ? cancel : photo.hopeless ? remove : ask)([photo]));
  }
  root.classList.add("filled");
  submit.hidden = false;
  results.prepend(...added.map((photo) => photo.card));
  photos.unshift(...added);
  ask(added);
}

function newCard(file) {
  const card = copyOf("card");
  const picture = slot(card, "picture");
  put(card, { name: file.name });
  card.setAttribute("aria-label", file.name);
  const forget = () => URL.revokeObjectURL(picture.src); // shown or not, the address has served
  picture.addEventListener("load", forget);
  picture.addEventListener("error", () => { picture.hidden = true; forget(); }); // not every browser shows every format
  picture.src = URL.createObjectURL(file);
  picture.hidden = false;
  return card;
}

function ask(some) {
  if (!form.reportValidity()) { // the browser points at the option that is wrong
    for (const photo of some) show(photo, "failure", "Correct the options, then try again.");
    return;
  }
  if (round.every((photo) => photo.state !== "waiting")) round = [];
  for (const photo of some) {
    photo.stop.abort();
    photo.stop = new AbortController();
    show(photo, "waiting", "Next in line…");
  }
  round = round.filter((photo) => !some.includes(photo)).concat(some);
  queue = queue.filter((photo) => !some.includes(photo)).concat(some);
  say(some.length === 1 ? "Looking at 1 photo." : `Looking at ${some.length} photos.`);
  progress();
  work();
}

function cancel(some) {
  queue = queue.filter((photo) => !some.includes(photo));
  for (const photo of some) {
    photo.stop.abort();
    show(photo, "cancelled", "Cancelled.");
  }
  say(some.length === 1 ? `${some[0].file.name}: cancelled.` : "Cancelled.");
  progress();
}

function remove([photo]) {
  photos.splice(photos.indexOf(photo), 1);
  round = round.filter((each) => each !== photo);
  photo.card.remove();
  root.classList.toggle("filled", photos.length > 0);
  submit.hidden = photos.length === 0;
  inputs[0].focus();
  say(`${photo.file.name}: removed.`);
  progress();
}

function work() {
  while (running < AT_ONCE && queue.length > 0) {
    running += 1;
    caption(queue.shift()).finally(() => { running -= 1; work(); });
  }
}

async function caption(photo) {
  const { signal } = photo.stop;
  try {
    fill(photo, await answer(photo, signal));
  } catch (error) {
    if (signal.aborted) return; // whoever did it has said so
    const sentence = error instanceof Failure ? error.message : "The service cannot be reached. Try again.";
    show(photo, "failure", sentence, error.hopeless === true);
    say(`${photo.file.name}: ${sentence}`);
  }
  progress();
}

class Failure extends Error {
  constructor(sentence, hopeless) { // whether another attempt would end in the same way
    super(sentence);
    this.hopeless = hopeless;
  }
}

async function answer(photo, signal) {
  const most = Number(form.dataset.maxBytes);
  if (photo.file.size > most) throw new Failure(`This photo is larger than ${Math.floor(most / 2 ** 20)} MiB. Use a smaller one.`, true);
  await photo.file.slice(0, 1).arrayBuffer().catch(() => { // a folder was dropped, or the file has gone
    throw new Failure("This file cannot be read. Choose a picture.", true);
  });
  const options = new URLSearchParams({ attention: "true" });
  for (const input of form.querySelectorAll(".option input")) options.set(input.name, input.value);
  for (let refusals = 0; ;) {
    await until(keyGiven, signal);
    const sent = key;
    show(photo, "waiting", "Looking…");
    const body = new FormData();
    body.append("image", photo.file);
    const response = await fetch(`${form.dataset.captions}?${options}`, { method: "POST", body, headers: headers(sent), signal });
    if (response.ok) {
      const row = (await response.json()).captions[0];
      signal.throwIfAborted();
      return row;
    }
    if (response.status === 401) {
      askForKey(sent);
      continue;
    }
    refusals += 1;
    if (![429, 503].includes(response.status) || refusals === ATTEMPTS) {
      const problem = await response.json().catch(() => ({}));
      throw new Failure(problem.detail || `The service answered ${response.status}.`, HOPELESS.test(problem.type));
    }
    if (refusals === 1) say(`The service is busy. ${photo.file.name} is tried again by itself.`);
    for (let left = refusals * (Number(response.headers.get("Retry-After")) || 1); left > 0; left -= 1) {
      show(photo, "waiting", `The service is busy. Trying again in ${left} s…`);
      await until(new Promise((done) => { setTimeout(done, 1000); }), signal);
    }
  }
}

const until = (promise, signal) => new Promise((resolve, reject) => { // or until the signal, whichever is first
  signal.throwIfAborted();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  promise.then(resolve, reject);
});

// The key, where the service needs one; while the page asks for it, questions wait for `keyGiven`.

const storage = (() => { try { return sessionStorage; } catch { return null; } })(); // some browsers are told to have none
const headers = (value) => (value === "" ? {} : { "X-API-Key": value });
let key = storage?.getItem(KEY) ?? "";
let keyGiven = Promise.resolve();
let goOn = null;

function askForKey(refused) {
  if (refused === key && keyForm.hidden) { // else there is a newer one, or the person has been asked
    storage?.removeItem(KEY);
    keyGiven = new Promise((resolve) => { goOn = resolve; });
    keyForm.hidden = false;
    byId("key").focus();
    say("This service needs an API key.");
  }
}

async function refusalOf(some) { // a sentence, or none: then the key is good, and the page may name the model
  const response = await fetch(form.dataset.model, { headers: headers(some) }).catch(() => null);
  if (response === null) return "The service cannot be reached. Try again.";
  if (response.status === 401) return "The service does not know this key.";
  if (!response.ok) return `The service answered ${response.status}. Try again.`;
  const { name, digest, licence } = await response.json();
  put(byId("model"), { name, digest, licence: licence === null ? "" : `, ${licence}` });
  byId("model").hidden = false;
  return "";
}

if (form.dataset.needsKey !== undefined && key === "") askForKey("");
else if (byId("model").hidden) refusalOf(key);

keyForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const entered = byId("key").value;
  const refusal = await refusalOf(entered);
  byId("key-failure").textContent = refusal;
  byId("key-failure").hidden = refusal === "";
  if (refusal !== "") {
    byId("key").select();
    return;
  }
  storage?.setItem(KEY, entered);
  key = entered;
  keyForm.reset();
  keyForm.hidden = true;
  inputs[0].focus();
  say("The key is accepted.");
  goOn();
});

// Showing

function show(photo, state, note = "", hopeless = false) { // the style sheet shows the parts of a card that belong to its state
  const { card } = photo;
  const action = slot(card, "action");
  const focused = action === document.activeElement;
  photo.state = state;
  photo.hopeless = hopeless;
  card.dataset.state = state;
  card.setAttribute("aria-busy", String(state === "waiting"));
  put(card, { note, action: state === "waiting" ? "Cancel" : hopeless ? "Remove" : "Try again" });
  if (focused && state === "result") slot(card, "caption").focus(); // else the focus would go with the button
}

function progress() {
  const left = round.filter((photo) => photo.state === "waiting").length;
  const panel = byId("progress");
  if (panel.contains(document.activeElement) && left === 0) inputs[0].focus();
  panel.hidden = round.length < 2 || left === 0;
  byId("bar").max = round.length;
  byId("bar").value = round.length - left;
  byId("count").textContent = `${round.length - left} of ${round.length} photos done`;
}

function fill(photo, row) {
  const { card } = photo;
  put(card, { caption: row.caption, confidence: percent(row.confidence) });
  slot(card, "picture").alt = row.caption;
  slot(card, "invitation").hidden = !row.attention;
  slot(card, "words").replaceChildren(...row.words.map((word, number) => {
    const item = copyOf(row.attention ? "word" : "plain-word");
    put(item, { word: word.word, share: percent(word.probability) });
    item.querySelector("meter").value = word.probability;
    if (row.attention) put(item, { place: `, looked most at the ${placeOf(row.attention[number])}` });
    return item;
  }));
  slot(card, "others").hidden = row.alternatives.length === 0;
  slot(card, "alternatives").replaceChildren(...row.alternatives.map((alternative) => {
    const item = copyOf("alternative");
    put(item, { sentence: alternative.caption, share: percent(alternative.confidence) });
    return item;
  }));
  setAttention(card, row.attention);
  show(photo, "result");
  say(`${photo.file.name}: ${row.caption}. Confidence ${percent(row.confidence)}.`);
}

// Choosing

for (const input of inputs) {
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // so that the same photo can be chosen again
  });
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (photos.length > 0) ask(photos);
});
form.addEventListener("invalid", () => { byId("options").open = true; }, { capture: true });
byId("cancel").addEventListener("click", () => cancel(photos.filter((photo) => photo.state === "waiting")));

// A beam holds at least as many sentences as it is to return, and so on: each choice moves the other one.
for (const [low, high] of [["num_captions", "beam_size"], ["min_length", "max_length"]].map((pair) => pair.map(byId))) {
  low.addEventListener("change", () => { if (Number(low.value) > Number(high.value)) high.value = low.value; });
  high.addEventListener("change", () => { if (Number(low.value) > Number(high.value)) low.value = high.value; });
}

const holdsFiles = (event) => event.dataTransfer !== null && event.dataTransfer.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  root.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) root.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  root.classList.remove("dragging");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData === null || event.clipboardData.files.length === 0) return;
  event.preventDefault();
  add(event.clipboardData.files);
});
