// Lets captions be corrected on the page, and hands them out as a CSV table that is made here, without a server.
"use strict";

(() => {
  const FILE = "captions.csv";
  // What a spreadsheet begins a formula with: the same list as for the tables that the job writes.
  const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/u;

  const status = document.getElementById("status");
  const captions = [...document.querySelectorAll("textarea")];
  const corrected = new Set(); // the captions that differ from what they were
  let unsaved = false;

  document.documentElement.classList.add("scripted");
  for (const caption of captions) caption.readOnly = false;

  const count = (number) => `${number} ${number === 1 ? "caption" : "captions"}`;

  const note = (caption) => {
    const differs = caption.value !== caption.defaultValue;
    const card = caption.closest(".card");
    card.classList.toggle("changed", differs);
    card.querySelector(".corrected").hidden = !differs;
    if (differs) corrected.add(caption);
    else corrected.delete(caption);
    unsaved = corrected.size > 0;
    status.textContent = unsaved ? `${count(corrected.size)} corrected, not saved yet.` : "No caption corrected yet.";
  };

  const cell = (value) => (/[",\r\n]/u.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  const table = () => {
    const lines = ["image,caption"];
    for (const caption of captions) {
      const text = caption.value.trim();
      if (!text) continue;
      lines.push(`${cell(caption.closest(".card").dataset.name)},${cell(FORMULA.test(text) ? `'${text}` : text)}`);
    }
    return lines;
  };

  const save = () => {
    const lines = table();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
    link.download = FILE;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may ask where to save first
    unsaved = false;
    const told = corrected.size ? `, ${corrected.size} of them corrected` : "";
    status.textContent = `${count(lines.length - 1)} in ${FILE}${told}.`;
  };

  const go = (from, step) => {
    const next = captions[captions.indexOf(from) + step];
    if (!next) return;
    next.focus();
    next.setSelectionRange(next.value.length, next.value.length);
    next.closest(".card").scrollIntoView({ block: "nearest" });
  };

  document.getElementById("save").addEventListener("click", save);

  document.addEventListener("input", (event) => {
    if (event.target.matches("textarea")) note(event.target);
  });

  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // Enter then ends a word that is being composed
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "s") {
      event.preventDefault();
      save();
      return;
    }
    if (!event.target.matches("textarea")) return;
    if (event.key === "Enter") {
      event.preventDefault();
      go(event.target, event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape" && event.target.value !== event.target.defaultValue) {
      event.target.value = event.target.defaultValue;
      note(event.target);
    }
  });

  // Browsers put back what was typed when a page is loaded again.
  window.addEventListener("pageshow", () => {
    for (const caption of captions) if (caption.value !== caption.defaultValue) note(caption);
  });

  window.addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });
})();
