// The caption of a card for the clipboard, in three forms.

import { byId, say, slot } from "./elements.js";

const COPIES = {
  text: (caption) => caption,
  alt: (caption) => `alt="${caption.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`)}"`,
  markdown: (caption, name) => {
    const address = encodeURIComponent(name).replace(/[()]/g, (letter) => `%${letter.charCodeAt(0).toString(16)}`);
    return `![${caption.replace(/[\\`*_[\]<>&]/g, "\\$&")}](${address})`;
  },
};

byId("results").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button === null) return;
  const card = button.closest(".card");
  const text = COPIES[button.dataset.copy](slot(card, "caption").textContent, slot(card, "name").textContent);
  if (!(await toClipboard(text, button))) {
    say("The browser does not allow copying.");
    return;
  }
  button.classList.add("copied");
  say(`Copied: ${text}`);
  setTimeout(() => button.classList.remove("copied"), 2000);
});

async function toClipboard(text, button) {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = document.createElement("textarea"); // without https browsers have the old way only
  area.value = text;
  button.after(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  button.focus();
  return done;
}
