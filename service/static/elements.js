// The parts of the page and of its cards: finding, filling and copying them.

export const byId = (id) => document.getElementById(id);
export const slot = (element, name) => element.querySelector(`[data-slot="${name}"]`);
export const put = (element, texts) => { for (const [name, text] of Object.entries(texts)) slot(element, name).textContent = text; };
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);
export const say = (sentence) => { byId("status").textContent = sentence; };

export function percent(probability) { // as on the server: never rounded to certain or impossible
  if (probability > 0 && probability < 0.01) return "<1%";
  return `${probability < 1 ? Math.min(99, Math.round(100 * probability)) : 100}%`;
}
