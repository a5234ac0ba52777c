// Image optimizer: what a picture weighs before and after, as /ws/image-optimizer/INT/ tells it.

import { el } from '../dom.js';
import { openPage } from './page.js';
import { bytes, setBar, setFacts } from './show.js';

class Images {
  #cards = new Map(); // by the picture's name

  constructor(panel) {
    this.panel = panel;
    panel.onSubmit('.start', () => this.start(false));
  }

  async start(alone, id) {
    const pictures = await Promise.all([...this.panel.part('.file').files].map(base64));
    const started = await this.panel.start('optimization', { pictures, id });
    if (started) this.panel.follow(started.id, alone);
    return started?.id;
  }

  reset() {
    this.#clear();
    setBar(this.panel.part('progress'), 0);
    this.panel.part('.message').textContent = '';
    setFacts(this.panel.part('.facts'), {});
  }

  frame(frame) {
    switch (frame.type) {
      case 'optimization_update':
        this.#update(frame);
        break;
      case 'job_update':
        if (frame.status === 'failed') break; // which the optimization says, too
        setBar(this.panel.part('progress'), frame.progress_percentage);
        this.panel.part('.message').textContent = `${frame.processed_files} of ${frame.total_files} pictures`;
        break;
      case 'task_failed':
        this.#update({ status: 'failed', message: frame.code });
        break;
    }
  }

  #clear() {
    this.#cards.clear();
    this.panel.part('.pictures').replaceChildren();
  }

  #update(frame) {
    const { status, image, variant, result, results, message } = frame;
    this.panel.status(status);
    if (status === 'failed') {
      this.panel.problem(`Not optimized: ${message ?? frame.error} (${frame.code ?? 'failed'}).`);
      return;
    }
    if (status === 'running' && frame.processed_files === 0 && image === undefined) this.#clear();
    if (frame.progress_percentage !== undefined) setBar(this.panel.part('progress'), frame.progress_percentage);
    if (frame.bytes_before) {
      setFacts(this.panel.part('.facts'), {
        before: bytes(frame.bytes_before), after: bytes(frame.bytes_after),
        saved: `${bytes(frame.bytes_saved)} (${Math.floor((100 * frame.bytes_saved) / frame.bytes_before)} %)`,
      });
    }
    if (variant) this.#card(image).tried(variant);
    if (result) this.#card(image).finished(result);
    for (const one of results ?? []) this.#card(one.image).finished(one);
  }

  #card(name) {
    let card = this.#cards.get(name);
    if (!card) {
      card = new Card(name, this.panel.seat.name);
      this.#cards.set(name, card);
      this.panel.part('.pictures').append(card.root);
    }
    return card;
  }
}

/** One picture: what it weighed, each way to write it that was tried, and how it looks before and after. */
class Card {
  #seat;
  #looks = el('div.looks');
  #variants = el('ul.variants');
  #verdict = el('p.hint', 'being encoded again…');

  constructor(name, seat) {
    this.#seat = seat;
    this.root = el('li.picture', el('h3', name), this.#verdict, this.#looks, this.#variants);
  }

  tried(variant) {
    this.#variants.append(this.#row(variant, variant.bytes));
    const most = Math.max(...[...this.#variants.querySelectorAll('progress')].map((bar) => bar.dataset.bytes));
    for (const bar of this.#variants.querySelectorAll('progress')) bar.max = most;
  }

  finished({
    bytes_before: before, bytes_after: after, best, variants, width, height, kept_original: kept,
    image, picture_before: original, picture_after: written,
  }) {
    if (this.#looks.childElementCount === 0 && original) {
      this.#looks.append(this.#look(original, kept ? 'As it is' : 'Before', before, image, width, height),
        ...(kept ? [] : [this.#look(written, 'After', after, image, width, height)]));
    }
    this.#verdict.textContent = kept ? `${bytes(before)}: nothing was smaller, so it stays as it is.`
      : `${bytes(before)} became ${bytes(after)}: ${Math.floor(100 * (1 - after / before))} % less.`;
    const unchanged = this.#row({ format: 'before', width, height, bytes: before }, before);
    this.#variants.replaceChildren(unchanged, ...variants.map((variant) => {
      const row = this.#row(variant, before);
      if (!kept && variant.bytes === best.bytes && variant.format === best.format && variant.width === best.width) row.className = 'best';
      return row;
    }));
  }

  /** A picture of the organization of the person in this seat: nobody else gets it under that name. */
  #look(name, when, size, image, width, height) {
    const picture = el('img');
    const caption = el('figcaption', `${when}, ${bytes(size)}`);
    picture.alt = `${image}, ${when.toLowerCase()}`;
    picture.width = width;
    picture.height = height;
    picture.addEventListener('error', () => {
      picture.remove();
      caption.append(': not kept any more');
    });
    picture.src = `/demo/pictures/${encodeURIComponent(name)}?seat=${this.#seat}`;
    return el('figure', picture, caption);
  }

  #row({ format, quality, width, height, bytes: size }, most) {
    const bar = el('progress');
    bar.max = Math.max(most, size);
    bar.value = size;
    bar.dataset.bytes = String(size);
    const name = `${format}${quality ? ` ${quality}` : ''}, ${width} × ${height}`;
    bar.setAttribute('aria-label', name);
    return el('li', el('span', name), bar, el('span.figure', bytes(size)));
  }
}

async function base64(file) {
  const data = new Uint8Array(await file.arrayBuffer());
  let text = '';
  for (let i = 0; i < data.length; i += 0x8000) text += String.fromCharCode(...data.subarray(i, i + 0x8000));
  return btoa(text);
}

openPage({
  subject: {
    label: 'Optimization number', id: '7', valid: /^[1-9][0-9]{0,8}$/, hint: 'a number from 1 on',
  },
  path: (id) => `/ws/image-optimizer/${id}/`,
  group: (id) => `optimization_${id}`,
  view: (panel) => new Images(panel),
  both: 'Optimize on both sides',
});
