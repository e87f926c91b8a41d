// Where the model looked: a card is darkened for the word that its reader picks.

import { byId, slot } from "./elements.js";

const DIM = 0.78; // how much light is taken where the model did not look, as in the report
const CANVAS = 1024; // pixels: the longer side of what is drawn over a photo; enough to have its very shape

const form = byId("form");
const results = byId("results");
const maps = new WeakMap(); // of each card: the weights of each word, rows of columns
const pointing = matchMedia("(hover: hover)"); // a finger leaves no pointer behind

export function placeOf(map) { // in words, for those who do not see it
  const flat = map.flat();
  const best = flat.indexOf(Math.max(...flat));
  const third = (index, length) => Math.floor((3 * (index + 0.5)) / length);
  const row = ["top", "", "bottom"][third(Math.floor(best / map[0].length), map.length)];
  const column = ["left", "", "right"][third(best % map[0].length, map[0].length)];
  return `${row} ${column}`.trim() || "middle";
}

export function setAttention(card, map) { // of a card's words; null of a model without attention
  maps.set(card, map);
  look(card);
}

function look(card) { // at the word that is pointed at, else at the one that the keyboard is on, else at the chosen one
  const word = (pointing.matches && card.querySelector("button.word:hover"))
    || card.querySelector("button.word:focus-visible") || card.querySelector('[aria-pressed="true"]');
  const words = [...card.querySelectorAll("button.word")];
  for (const each of words) each.classList.toggle("chosen", each === word);
  card.classList.toggle("looking", word !== null);
  if (word !== null) draw(slot(card, "picture"), maps.get(card)[words.indexOf(word)]);
}

function draw(picture, map) { // darkness over the photo, less of it where the weights are large
  const { naturalWidth: width, naturalHeight: height } = picture;
  if (width === 0) return;
  const most = Math.max(...map.flat());
  const small = new OffscreenCanvas(map[0].length, map.length);
  const dark = new ImageData(small.width, small.height);
  map.flat().forEach((weight, place) => { dark.data[4 * place + 3] = 255 * DIM * (1 - weight / (most || 1)); });
  small.getContext("2d").putImageData(dark, 0, 0);
  const canvas = picture.parentElement.querySelector("canvas") ?? picture.parentElement.appendChild(document.createElement("canvas"));
  const scale = CANVAS / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  // The part that the model saw: all of the photo, or a square from its middle.
  const side = (Number(form.dataset.seenShare) * Math.min(width, height)) || 0;
  const [across, down] = side === 0 ? [1, 1] : [side / width, side / height];
  const box = [(1 - across) / 2 * canvas.width, (1 - down) / 2 * canvas.height, across * canvas.width, down * canvas.height];
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(0 0 0 / ${DIM})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.clearRect(...box);
  context.imageSmoothingQuality = "high";
  context.drawImage(small, ...box);
}

for (const kind of ["pointerover", "pointerout", "focusin", "focusout"]) {
  results.addEventListener(kind, (event) => {
    const word = event.target.closest("button.word");
    if (word !== null) look(word.closest(".card"));
  });
}
results.addEventListener("click", (event) => {
  const word = event.target.closest("button.word");
  if (word === null) return;
  const card = word.closest(".card");
  const pressed = word.getAttribute("aria-pressed") === "true";
  for (const other of card.querySelectorAll("button.word")) other.setAttribute("aria-pressed", String(other === word && !pressed));
  look(card);
});
