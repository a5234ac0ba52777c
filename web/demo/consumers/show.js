// Small things that views show. Whatever comes from an event goes in as text.

import { announce, el } from '../dom.js';

/** The text of a value that may be a text, a number, or an object with a text in one of its fields. */
export function words(value) {
  if (value === null || value === undefined) return '';
  if (typeof value !== 'object') return String(value);
  for (const field of ['message', 'content', 'text', 'title', 'name', 'description', 'step', 'prompt']) {
    if (typeof value[field] === 'string' && value[field] !== '') return value[field];
  }
  return JSON.stringify(value);
}

/** Sets a <progress> and the figure behind it. */
export function setBar(bar, percent) {
  const rounded = Math.max(0, Math.min(100, Math.round(Number(percent) || 0)));
  bar.value = rounded;
  bar.nextElementSibling.textContent = `${rounded} %`;
}

/** Names and values as a list of facts; whatever has no value is left out. */
export function setFacts(list, facts) {
  list.replaceChildren(...Object.entries(facts).filter(([, value]) => value !== undefined && value !== null && value !== '')
    .map(([name, value]) => el('div', el('dt', name), el('dd', words(value)))));
}

/** Bytes for people. */
export function bytes(n) {
  if (!Number.isFinite(n)) return '';
  return n < 1_000 ? `${n} B` : n < 1_000_000 ? `${(n / 1_000).toFixed(1)} kB` : `${(n / 1_000_000).toFixed(2)} MB`;
}

/** A question of a worker to everyone who watches: shows itself while it is open. */
export class Question {
  #key = '';

  /** root holds .prompt, .context and an <input>; answer(text, request) sends what the person says. */
  constructor(root, answer) {
    this.root = root;
    root.addEventListener('submit', (submit) => {
      submit.preventDefault();
      answer(this.#input.value, this.request);
    });
    this.close();
  }

  get #input() {
    return this.root.querySelector('input');
  }

  open(request) {
    const key = request.input_key ?? `${request.execution_id}:${request.task_index}`;
    this.request = request;
    this.root.querySelector('.prompt').textContent = words(request.prompt ?? request.message ?? 'Your answer is needed.');
    this.root.querySelector('.context').textContent = words(request.context);
    this.root.hidden = false;
    if (key === this.#key) return; // the same one again
    this.#key = key;
    this.#input.value = '';
    announce(`Answer needed: ${words(request.prompt)}`);
  }

  /** A person who has just answered by keyboard continues at the subject of the question. */
  close() {
    const home = this.root.contains(document.activeElement) && this.root.parentElement;
    this.#key = '';
    this.request = null;
    this.root.hidden = true;
    if (home) {
      home.tabIndex = -1;
      home.focus({ preventScroll: true });
    }
  }
}
