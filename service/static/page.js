// Makes the form quicker: photos are captioned as soon as they are chosen, dropped or pasted, one card each.
"use strict";

(() => {
  const AT_ONCE = 2; // requests under way; the service has places for others, too
  const ATTEMPTS = 5; // when the service is full it says when to come back

  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const form = byId("form");
  const input = byId("image");
  const results = byId("results");
  const beamSize = byId("beam_size");
  const numCaptions = byId("num_captions");
  const submit = byId("submit");
  const photos = []; // {file, card, run}: `run` numbers the questions about a photo, so that late answers are ignored
  let queue = [];
  let running = 0;

  root.classList.add("scripted");
  submit.hidden = true;
  input.required = false;

  const slot = (element, name) => element.querySelector(`[data-slot="${name}"]`);
  const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);
  const say = (sentence) => { byId("status").textContent = sentence; };
  const pause = (seconds) => new Promise((done) => { setTimeout(done, 1000 * seconds); });

  function percent(probability) { // as on the server: never rounded to certain or impossible
    if (probability > 0 && probability < 0.01) return "<1%";
    return `${probability < 1 ? Math.min(99, Math.round(100 * probability)) : 100}%`;
  }

  function add(files) {
    const chosen = [...files];
    if (chosen.length === 0) return;
    root.classList.add("filled");
    submit.hidden = false;
    submit.textContent = "Caption again";
    const added = chosen.map((file) => ({ file, card: newCard(file), run: 0 }));
    results.prepend(...added.map((photo) => photo.card));
    photos.unshift(...added);
    ask(added);
  }

  function newCard(file) {
    const card = copyOf("card");
    const picture = slot(card, "picture");
    slot(card, "name").textContent = file.name;
    const forget = () => URL.revokeObjectURL(picture.src); // shown or not, the address has served
    picture.addEventListener("load", forget);
    picture.addEventListener("error", () => { picture.hidden = true; forget(); }); // not every browser shows every format
    picture.src = URL.createObjectURL(file);
    picture.hidden = false;
    slot(card, "copy").addEventListener("click", () => copy(card));
    return card;
  }

  function ask(some) {
    for (const photo of some) {
      photo.run += 1;
      show(photo.card, "waiting");
    }
    queue = queue.filter((photo) => !some.includes(photo)).concat(some);
    say(some.length === 1 ? "Looking at 1 photo." : `Looking at ${some.length} photos.`);
    work();
  }

  async function work() {
    while (running < AT_ONCE && queue.length > 0) {
      const photo = queue.shift();
      running += 1;
      caption(photo).finally(() => { running -= 1; work(); });
    }
  }

  async function caption(photo) {
    const run = photo.run;
    let row;
    try {
      row = await request(photo.file);
    } catch (error) {
      if (run === photo.run) fail(photo, error instanceof Failure ? error.message : "The service cannot be reached. Try again.");
      return;
    }
    if (run === photo.run) fill(photo, row);
  }

  class Failure extends Error {}

  async function request(file) {
    const most = Number(form.dataset.maxBytes);
    if (file.size > most) throw new Failure(`This photo is larger than ${Math.floor(most / 2 ** 20)} MB. Use a smaller one.`);
    const options = new URLSearchParams({ beam_size: beamSize.value, num_captions: numCaptions.value });
    for (let attempt = 1; ; attempt += 1) {
      const body = new FormData();
      body.append("image", file);
      const response = await fetch(`${form.dataset.captions}?${options}`, { method: "POST", body });
      if (response.ok) return (await response.json()).captions[0];
      if (response.status !== 503 || attempt === ATTEMPTS) {
        const problem = await response.json().catch(() => ({}));
        throw new Failure(problem.detail || `The service answered ${response.status}.`);
      }
      await pause((Number(response.headers.get("Retry-After")) || 1) * attempt);
    }
  }

  function show(card, name) {
    for (const part of ["waiting", "failure", "result"]) slot(card, part).hidden = part !== name;
    card.setAttribute("aria-busy", String(name === "waiting"));
  }

  function fail(photo, sentence) {
    slot(photo.card, "failure").textContent = sentence;
    show(photo.card, "failure");
    say(`${photo.file.name}: ${sentence}`);
  }

  function fill(photo, row) {
    const { card } = photo;
    slot(card, "caption").textContent = row.caption;
    slot(card, "confidence").textContent = percent(row.confidence);
    slot(card, "picture").alt = row.caption;
    slot(card, "words").replaceChildren(...row.words.map((word) => {
      const item = copyOf("word");
      slot(item, "word").textContent = word.word;
      slot(item, "share").textContent = percent(word.probability);
      item.querySelector("meter").value = word.probability;
      return item;
    }));
    slot(card, "others").hidden = row.alternatives.length === 0;
    slot(card, "alternatives").replaceChildren(...row.alternatives.map((alternative) => {
      const item = copyOf("alternative");
      slot(item, "sentence").textContent = alternative.caption;
      slot(item, "share").textContent = percent(alternative.confidence);
      return item;
    }));
    show(card, "result");
    say(`${photo.file.name}: ${row.caption}. Confidence ${percent(row.confidence)}.`);
  }

  async function copy(card) {
    const text = slot(card, "caption").textContent;
    const button = slot(card, "copy");
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no clipboard without https, except on this machine: select the caption for Ctrl-C instead
      getSelection().selectAllChildren(slot(card, "caption"));
      say("The caption is selected; copy it with your keyboard.");
      return;
    }
    button.textContent = "Copied";
    say("Caption copied.");
    setTimeout(() => { button.textContent = "Copy caption"; }, 2000);
  }

  // The cards of a plain post stay, but cannot be asked again: their files are gone.
  for (const card of results.children) slot(card, "copy").addEventListener("click", () => copy(card));

  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // so that the same photo can be chosen again
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(photos);
  });

  // A beam holds at least as many sentences as it is to return: each choice moves the other one.
  const choose = (select, fits) => {
    const option = [...select.options].find((one) => fits(Number(one.value)));
    if (option) select.value = option.value;
  };
  numCaptions.addEventListener("change", () => {
    if (Number(beamSize.value) < Number(numCaptions.value)) choose(beamSize, (size) => size >= Number(numCaptions.value));
  });
  beamSize.addEventListener("change", () => {
    if (Number(beamSize.value) < Number(numCaptions.value)) numCaptions.value = beamSize.value;
  });

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
})();
