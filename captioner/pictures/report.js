// Finds examples, shows those that somebody looks at, and draws where the model looked.
"use strict";

(() => {
  const FEW = 24; // the pictures of every view but "all", and how many more are shown at a time
  const AHEAD = "1500px"; // how far below the window the next ones are made
  const DIM = 0.78; // how much light is taken where the model did not look
  const CANVAS = 128; // pixels: the longer side of a drawn map; the browser enlarges it

  const byId = (id) => document.getElementById(id);
  const cards = byId("cards");
  const search = byId("search");
  const sort = byId("sort");
  const letters = byId("letters");
  const maps = new WeakMap(); // of each card: the bytes of its attention

  document.documentElement.classList.add("scripted");

  const examples = [...document.querySelectorAll("script.example")].map((source, page) => ({
    source,
    page,
    card: null,
    cider: Number(source.dataset.cider),
    confidence: Number(source.dataset.confidence),
    draw: Number(source.dataset.draw),
    text: source.dataset.text.toLowerCase(),
  }));

  // Each order is a number by which examples are sorted; equal ones keep the page's order.
  const ORDERS = {
    "cider-down": (one) => -one.cider,
    "cider-up": (one) => one.cider,
    "confidence-down": (one) => -one.confidence,
    "confidence-up": (one) => one.confidence,
    page: (one) => one.page,
  };
  // Each view: by what its few examples are chosen (none: all of them), and how they are sorted unless someone sorts anew.
  const VIEWS = {
    best: { chosen: ORDERS["cider-down"], sorted: "cider-down" },
    worst: { chosen: ORDERS["cider-up"], sorted: "cider-up" },
    unsure: { chosen: ORDERS["confidence-up"], sorted: "confidence-up" },
    random: { chosen: (one) => one.draw, sorted: "page" },
    all: { chosen: null, sorted: "page" },
  };

  let wanted = []; // the examples of the view, in its order
  let shown = 0; // how many of them are on the page

  const by = (order) => (one, other) => order(one) - order(other);
  const view = () => document.querySelector('input[name="view"]:checked').value;

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = examples.filter((one) => words.every((word) => one.text.includes(word)));
    const { chosen } = VIEWS[view()];
    wanted = chosen === null ? found : [...found].sort(by(chosen)).slice(0, FEW);
    wanted.sort(by(ORDERS[sort.value]));
    shown = 0;
    cards.replaceChildren();
    more();
    const number = (count) => count.toLocaleString("en");
    const pictures = `${number(wanted.length)} of ${number(examples.length)} pictures`;
    byId("count").textContent = words.length === 0 ? `${pictures}.` : `${pictures}; ${number(found.length)} match the search.`;
  }

  function more() {
    const next = wanted.slice(shown, shown + FEW);
    shown += next.length;
    cards.append(...next.map(cardOf));
  }

  function cardOf(one) {
    if (one.card === null) {
      const template = document.createElement("template");
      template.innerHTML = one.source.textContent;
      one.card = template.content.firstElementChild;
    }
    return one.card;
  }

  // Where the model looked

  function look(word) {
    const card = word.closest(".card");
    for (const other of card.querySelectorAll(".chosen")) other.classList.remove("chosen");
    word.classList.add("chosen");
    draw(card, Number(word.dataset.word));
    card.classList.add("looking");
  }

  function rest(card) { // back to the plain picture, or to the word that has the focus
    const focused = card.querySelector(".word:focus");
    if (focused !== null) {
      look(focused);
      return;
    }
    card.classList.remove("looking");
    for (const word of card.querySelectorAll(".chosen")) word.classList.remove("chosen");
  }

  function draw(card, word) {
    const rows = Number(card.dataset.rows);
    const columns = Number(card.dataset.columns);
    if (!maps.has(card)) maps.set(card, Uint8Array.from(atob(card.dataset.attention), (one) => one.charCodeAt(0)));
    const map = maps.get(card).subarray(word * rows * columns, (word + 1) * rows * columns);
    const picture = card.querySelector("img");
    const canvas = card.querySelector("canvas") ?? picture.parentElement.appendChild(document.createElement("canvas"));
    const scale = CANVAS / Math.max(picture.width, picture.height);
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    canvas.setAttribute("aria-hidden", "true");
    const [left, top, right, bottom] = card.dataset.seen.split(" ").map(Number);
    const across = taps(canvas.width, left, right, columns);
    const down = taps(canvas.height, top, bottom, rows);
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    down.forEach((vertical, y) => {
      across.forEach((horizontal, x) => {
        let value = 0;
        for (const [row, share] of vertical) {
          for (const [column, part] of horizontal) value += share * part * map[row * columns + column];
        }
        const light = Math.min(1, Math.max(0, value / 255));
        image.data[4 * (y * canvas.width + x) + 3] = 255 * DIM * (1 - light); // black, more or less of it
      });
    });
    context.putImageData(image, 0, 0);
  }

  // For each of `length` pixels, the places of the map that it is made of, with their shares (cubic convolution,
  // Keys 1981, a = -0.5, edges repeated); none for a pixel outside of the part that the model saw.
  function taps(length, from, to, places) {
    const cubic = (distance) => {
      const d = Math.abs(distance);
      return d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
    };
    return Array.from({ length }, (_, pixel) => {
      const share = ((pixel + 0.5) / length - from) / (to - from);
      if (share < 0 || share > 1) return [];
      const centre = share * places - 0.5;
      return [-1, 0, 1, 2].map((step) => {
        const place = Math.floor(centre) + step;
        return [Math.min(places - 1, Math.max(0, place)), cubic(centre - place)];
      });
    });
  }

  const wordOf = (event) => (event.target instanceof Element ? event.target.closest("button.word") : null);
  for (const kind of ["pointerover", "focusin", "click"]) {
    cards.addEventListener(kind, (event) => {
      const word = wordOf(event);
      if (word !== null) look(word);
    });
  }
  for (const kind of ["pointerout", "focusout"]) {
    cards.addEventListener(kind, (event) => {
      const word = wordOf(event);
      if (word !== null && !word.contains(event.relatedTarget)) setTimeout(() => rest(word.closest(".card")));
    });
  }

  // Keys

  const currentCard = () => document.activeElement.closest("#cards > .card");

  function step(forward) {
    const current = currentCard();
    if (current === null) {
      go([...cards.children].find((card) => card.getBoundingClientRect().top >= 0) ?? cards.firstElementChild);
      return;
    }
    if (forward && current.nextElementSibling === null) more();
    go(forward ? current.nextElementSibling : current.previousElementSibling);
  }

  function go(card) {
    if (card === null) return;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "start" });
  }

  function turn(forward) {
    const card = currentCard();
    if (card === null) return false;
    const words = [...card.querySelectorAll("button.word")];
    const place = words.indexOf(document.activeElement);
    const next = place === -1 ? (forward ? 0 : words.length - 1) : place + (forward ? 1 : -1);
    words[next]?.focus();
    return true;
  }

  function leave() {
    if (document.activeElement === search) {
      search.value = "";
      find();
    } else {
      currentCard()?.focus();
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select");
    if (event.key === "Escape") {
      leave();
    } else if (!typing && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      if (turn(event.key === "ArrowRight")) event.preventDefault();
    } else if (letters.checked && !event.target.matches("input[type=search], select")) {
      if (event.key === "j" || event.key === "k") step(event.key === "j");
      if (event.key === "/") {
        event.preventDefault(); // else the search box would receive it
        search.focus();
        search.scrollIntoView({ block: "nearest" });
      }
    }
  });

  // Choosing

  for (const radio of document.querySelectorAll('input[name="view"]')) {
    radio.addEventListener("change", () => {
      sort.value = VIEWS[view()].sorted;
      find();
    });
  }
  sort.addEventListener("change", find);
  search.addEventListener("input", find);
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) more();
  }, { rootMargin: AHEAD }).observe(byId("more"));

  // A browser that comes back to the page remembers what was chosen.
  find();
})();
