// Research: steps, progress and a report, as /ws/research/INT/ tells them.

import { el } from '../dom.js';
import { kindOf, openPage } from './page.js';
import { setBar, words } from './show.js';

class Research {
  constructor(panel) {
    this.panel = panel;
    this.query = panel.part('.query');
    this.query.value = 'isolation';
    panel.onSubmit('.start', () => this.start(false));
    panel.onClick('.cancel', () => panel.send({ type: 'cancel_research', request_id: crypto.randomUUID() }));
    panel.onClick('.state-again', () => panel.send({ type: 'get_state' }));
  }

  async start(alone, id) {
    const started = await this.panel.start('research', { query: this.query.value, id });
    if (started) this.panel.follow(started.id, alone);
    return started?.id;
  }

  reset() {
    setBar(this.panel.part('progress'), 0);
    this.panel.part('.message').textContent = '';
    this.#steps([]);
    this.#report(undefined);
  }

  frame(frame) {
    switch (frame.type) {
      case 'initial_state':
        this.#steps([]);
        for (const step of frame.steps) this.#step(step);
        this.#status(frame.research);
        if (frame.research.query) this.panel.part('.message').textContent = `“${frame.research.query}” ${frame.research.message}`;
        this.#report(frame.report);
        break;
      case 'status_update':
        if (frame.query !== undefined) this.#restart(); // the first one of a run
        this.#status(frame);
        break;
      case 'step_update':
        this.#step(frame);
        break;
      case 'report_update':
        this.#report(frame.report);
        break;
      case 'cancel_response':
        if (!frame.success) this.panel.problem(frame.message);
        break;
      case 'task_failed':
        this.#status({ status: 'failed', message: frame.code });
        break;
    }
  }

  #restart() {
    this.#steps([]);
    this.#report(undefined);
  }

  #status({ status, message, progress }) {
    this.panel.status(status);
    this.panel.part('.message').textContent = message ?? '';
    if (progress !== undefined && kindOf(status) !== 'failed') setBar(this.panel.part('progress'), progress); // it stays where it stopped
  }

  #steps(items) {
    this.panel.part('.steps').replaceChildren(...items);
    this.panel.part('.empty').hidden = items.length > 0;
  }

  // A step that is said again takes its own place.
  #step({ step, step_number: number }) {
    const list = this.panel.part('.steps');
    const { title, content } = Object(step);
    const item = title && content ? el('li', el('b', title), ' ', el('span', content)) : el('li', words(step));
    const known = number !== undefined && number !== null && [...list.children].find((other) => other.dataset.number === String(number));
    if (number !== undefined && number !== null) item.dataset.number = String(number);
    if (known) known.replaceWith(item);
    else list.append(item);
    this.panel.part('.empty').hidden = true;
  }

  #report(report) {
    const { summary, findings = [] } = Object(report);
    this.panel.part('.report').hidden = !report;
    this.panel.part('.report .text').textContent = summary ?? words(report);
    this.panel.part('.findings').replaceChildren(...findings.map(({ document: source, section, excerpt }) => el('li',
      el('span.what', el('b', words(section)), ' ', el('code', words(source))), el('span.hint', words(excerpt)))));
  }
}

openPage({
  subject: {
    label: 'Research number', id: '7', valid: /^[1-9][0-9]{0,8}$/, hint: 'a number from 1 on',
  },
  path: (id) => `/ws/research/${id}/`,
  group: (id) => `research_${id}`,
  view: (panel) => new Research(panel),
  both: 'Research on both sides',
});
