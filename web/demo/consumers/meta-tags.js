// Meta tags: how far the worker is, and what it found, as /ws/meta-tags/task/ID/ tells it.

import { el } from '../dom.js';
import { openPage } from './page.js';
import { setBar, setFacts, words } from './show.js';

class MetaTags {
  constructor(panel) {
    this.panel = panel;
    panel.part('.url').value = '/';
    panel.onSubmit('.start', () => this.start(false));
    panel.onClick('.state-again', () => panel.send({ type: 'check_status' }));
  }

  async start(alone, id) {
    const started = await this.panel.start('metatags', { url: this.panel.part('.url').value, id });
    if (started) this.panel.follow(started.id, alone);
    return started?.id;
  }

  reset() {
    this.#progress({});
    this.#result(null);
    this.panel.part('.message').textContent = '';
  }

  frame(frame) {
    switch (frame.type) {
      case 'progress_update':
        this.panel.status('running');
        this.#progress(frame.progress);
        this.#result(null);
        break;
      case 'status_update':
        this.panel.status(frame.status);
        this.panel.part('.message').textContent = frame.message ?? '';
        if (frame.progress) this.#progress(frame.progress);
        if (frame.status === 'completed') setBar(this.panel.part('progress'), 100);
        this.#result(frame.result);
        break;
      case 'task_failed':
        this.panel.status('failed');
        this.panel.part('.message').textContent = frame.code;
        break;
    }
  }

  #progress(progress) {
    setBar(this.panel.part('progress'), progress.percent);
    const of = progress.total_urls === undefined ? '' : ` of ${progress.total_urls}`;
    setFacts(this.panel.part('.facts'), {
      step: progress.step, doing: progress.action, found: progress.urls_found,
      read: progress.urls_processed === undefined ? undefined : `${progress.urls_processed}${of}`,
    });
  }

  #result(result) {
    const pages = result?.pages ?? [];
    this.panel.part('.result').hidden = !result;
    this.panel.part('.found').replaceChildren(...pages.map(({ url, title, description, missing = [], suggested = {} }) => {
      const facts = el('dl.facts');
      setFacts(facts, { title, description, ...Object.fromEntries(missing.map((tag) => [`${tag}, missing`, suggested[tag] && `could be: ${suggested[tag]}`])) });
      return el('article.page', el('h3', el('code', new URL(url).pathname)), facts);
    }));
    if (result && pages.length === 0) this.panel.part('.found').textContent = words(result);
  }
}

openPage({
  subject: {
    label: 'Task id', id: 'task-1', valid: /^[A-Za-z0-9_\-]{1,64}$/, hint: '1 to 64 of A-Z a-z 0-9 _ -',
  },
  path: (id) => `/ws/meta-tags/task/${id}/`,
  group: (id) => `metatags_task_${id}`,
  view: (panel) => new MetaTags(panel),
  both: 'Read on both sides',
});
