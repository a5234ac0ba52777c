// Crawl: pages as they are found and a heartbeat, as /ws/crawl/ID/ tells them.

import { el } from '../dom.js';
import { openPage } from './page.js';
import { bytes, setBar } from './show.js';

const MAX_PAGES = 12;

class Crawl {
  constructor(panel) {
    this.panel = panel;
    panel.part('.url').value = '/';
    panel.onSubmit('.start', () => this.start(false));
  }

  async start(alone, id) {
    const started = await this.panel.start('crawl', { url: this.panel.part('.url').value, max_pages: MAX_PAGES, id });
    if (started) this.panel.follow(started.id, alone);
    return started?.id;
  }

  reset() {
    this.#clear();
    this.panel.part('.beats').textContent = '0';
  }

  frame(frame) {
    switch (frame.type) {
      case 'heartbeat':
        this.panel.part('.beats').textContent = frame.count;
        break;
      case 'crawl_update':
        this.#update(frame.data);
        break;
      case 'event':
        if (frame.event_name === 'crawl_started') this.#clear();
        this.panel.part('.message').textContent = frame.event_name.replaceAll('_', ' ');
        break;
      case 'task_failed':
        this.#update({ update_type: 'error', code: frame.code });
        break;
    }
  }

  #clear() {
    this.panel.part('.visited').replaceChildren();
    this.panel.part('.empty').hidden = false;
    for (const figure of ['.pages', '.broken']) this.panel.part(figure).textContent = '0';
    this.panel.part('.size').textContent = '0 B';
    this.panel.part('.message').textContent = '';
    setBar(this.panel.part('progress'), 0);
  }

  #update(data) {
    this.panel.status(data.update_type === 'page' ? 'running' : data.update_type);
    if (data.update_type === 'error') this.panel.problem(`The crawl failed: ${data.message ?? ''} (${data.code}).`);
    if (data.progress !== undefined) setBar(this.panel.part('progress'), data.progress);
    if (data.pages_crawled !== undefined) {
      this.panel.part('.pages').textContent = data.pages_crawled;
      this.panel.part('.broken').textContent = data.broken;
      this.panel.part('.size').textContent = bytes(data.bytes);
    }
    if (data.heartbeats !== undefined) this.panel.part('.beats').textContent = data.heartbeats;
    // Each update lists all pages so far; those that are shown stay where they are.
    for (const page of (data.visited ?? []).slice(this.panel.part('.visited').children.length)) this.#page(page);
  }

  #page({ url, status_code: status, title, links }) {
    this.panel.part('.empty').hidden = true;
    const tag = el('span.tag', status ? String(status) : 'not fetched');
    if (!status || status >= 400) tag.dataset.kind = 'bad';
    this.panel.part('.visited').append(el('li', tag, el('code', url.replace(location.origin, '')),
      el('span.what', [title, links ? `${links} links` : ''].filter(Boolean).join(', '))));
  }
}

openPage({
  subject: {
    label: 'Crawl id', id: 'crawl-1', valid: /^[A-Za-z0-9_\-]{1,64}$/, hint: '1 to 64 of A-Z a-z 0-9 _ -',
  },
  path: (id) => `/ws/crawl/${id}/`,
  group: (id) => `crawl_${id}`,
  view: (panel) => new Crawl(panel),
  both: 'Crawl on both sides',
});
