// Crew board: every run of a crew as a card that moves from column to column, as
// /ws/crew/ID/kanban/ tells it.

import { el } from '../dom.js';
import { kindOf, openPage, wordOf } from './page.js';
import { Question, words } from './show.js';

const MAX_STEPS = 3;

class Board {
  #cards = new Map(); // by execution id

  constructor(panel) {
    this.panel = panel;
    panel.onClick('.go', () => this.start(false));
  }

  async start(alone, id) {
    return (await this.panel.start('crew', { crew_id: this.panel.id, id }))?.id;
  }

  reset() {
    this.#cards.clear();
    for (const list of this.panel.root.querySelectorAll('.board ul')) list.replaceChildren();
    this.#count();
  }

  frame(frame) {
    switch (frame.type) {
      case 'initial_state':
        this.reset();
        for (const execution of frame.executions) this.#card(execution.execution_id).update(execution);
        break;
      case 'execution_update':
        this.#card(frame.execution_id).update(frame);
        break;
      case 'agent_step':
        this.#card(frame.execution_id).step(frame);
        break;
      case 'human_input_request':
        this.#card(frame.execution_id).ask(frame);
        break;
      case 'human_input_accepted':
        this.#card(frame.execution_id).answered();
        break;
      case 'task_complete':
        this.#card(frame.execution_id).complete(frame);
        break;
      default:
        return;
    }
    this.#count();
  }

  #card(id) {
    let card = this.#cards.get(id);
    if (!card) {
      card = new Card(id, this.#cards.size + 1, this.panel);
      this.#cards.set(id, card);
    }
    return card;
  }

  #count() {
    for (const column of this.panel.root.querySelectorAll('.board section')) {
      const cards = column.querySelector('ul').children.length;
      column.querySelector('.count').textContent = String(cards);
      column.hidden = cards === 0;
    }
    this.panel.part('.empty').hidden = this.#cards.size > 0;
  }
}

/** One run. */
class Card {
  #stage = el('p.stage');
  #steps = el('ol.steps');
  #column = '';

  /** number: which of the runs that this page has seen. */
  constructor(id, number, panel) {
    this.panel = panel;
    this.number = number;
    const form = el('form.question', el('p.prompt'), el('p.hint.context'),
      el('label', el('span.label', 'Your answer'), el('input')), el('button.primary', 'Answer'));
    const input = form.querySelector('input');
    input.required = true;
    input.maxLength = 500;
    input.autocomplete = 'off';
    this.question = new Question(form, (text, request) => {
      panel.send({ type: 'human_input', execution_id: id, task_index: request.task_index, input: text });
    });
    this.title = el('h3', `Run ${number}`);
    this.root = el('li.run', this.title, this.#stage, this.#steps, form);
    this.root.dataset.execution = id;
    this.#move('waiting');
  }

  update({ status, stage, task_index: index, human_input_request: request, started_by: user, started_at: at }) {
    if (user && at) this.title.textContent = `Run ${this.number} · ${this.panel.nameOf(user)} · ${new Date(at).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })}`;
    const title = stage?.title ?? words(stage);
    if (title) this.#stage.textContent = Number.isInteger(index) ? `${index + 1}. ${title}` : title;
    const kind = kindOf(status);
    if (request) {
      this.ask({ task_index: index, ...request });
      return;
    }
    this.question.close();
    if (kind === 'failed') this.#stage.textContent = wordOf(status);
    this.#move({ idle: 'waiting', running: 'running', asks: 'asking', done: 'ended', failed: 'ended' }[kind]);
    if (kind === 'done' || kind === 'failed') this.root.dataset.outcome = kind;
  }

  step(frame) {
    const { agent, content } = frame;
    this.#steps.append(el('li', ...(agent ? [el('b', words(agent)), ' '] : []), words(content ?? frame)));
    while (this.#steps.children.length > MAX_STEPS) this.#steps.firstElementChild.remove();
  }

  ask(request) {
    this.#move('asking');
    this.question.open(request);
  }

  answered() {
    this.question.close();
    this.#move('running');
  }

  complete({ message }) {
    this.question.close();
    this.#stage.textContent = words(message);
    this.root.dataset.outcome = 'done';
    this.#move('ended');
    this.panel.status('completed');
  }

  #move(column) {
    if (column === this.#column) return;
    this.#column = column;
    const focused = this.root.contains(document.activeElement) ? document.activeElement : null; // moving takes it away
    const list = this.panel.part(`[data-column="${column}"] ul`);
    list.parentElement.hidden = false; // what is hidden takes no focus
    list.prepend(this.root);
    focused?.focus({ preventScroll: true });
    if (column !== 'ended') delete this.root.dataset.outcome;
  }
}

openPage({
  subject: {
    label: 'Crew', id: 'writers', valid: /^[A-Za-z0-9_\-]{1,64}$/, hint: '1 to 64 of A-Z a-z 0-9 _ -',
    next: (id) => id.replace(/\d*$/, (n) => String((Number(n) || 1) + 1)),
  },
  path: (id) => `/ws/crew/${id}/kanban/`,
  group: (id) => `crew_${id}_kanban`,
  view: (panel) => new Board(panel),
  both: 'Start a run on both sides',
});
