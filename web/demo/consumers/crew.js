// Crew execution: what a crew says, and what it asks, as /ws/crew_execution/ID/ tells it.

import { el } from '../dom.js';
import { openPage } from './page.js';
import { Question, words } from './show.js';

/** The crew whose board the board's page shows first. */
const CREW = 'writers';

class Execution {
  #messages = new Map(); // by id: the element

  constructor(panel) {
    this.panel = panel;
    this.question = new Question(panel.part('.question'), (input, request) => {
      panel.send({ type: 'human_input', input_key: request.input_key, input });
    });
    panel.onClick('.go', () => this.start(false));
  }

  async start(alone, id) {
    const started = await this.panel.start('crew', { crew_id: CREW, id });
    if (started) this.panel.follow(started.id, alone);
    return started?.id;
  }

  reset() {
    this.#messages.clear();
    this.panel.part('.messages').replaceChildren();
    this.panel.part('.empty').hidden = false;
    this.question?.close(); // a panel resets its view before that is complete
  }

  frame(frame) {
    switch (frame.type) {
      case 'initial_state':
      case 'crew_execution_update':
        this.panel.status(frame.human_input_request ? 'needs you' : frame.status);
        for (const message of frame.messages ?? []) this.#say(message);
        if (frame.human_input_request) this.question.open(frame.human_input_request);
        else this.question.close();
        break;
      case 'human_input_accepted':
        this.question.close();
        break;
      case 'task_failed':
        this.panel.status('FAILED');
        this.panel.problem(`The crew gave up (${frame.code}).`);
        break;
    }
  }

  #say(message) {
    const { id, agent, role, name } = Object(message);
    const item = el('li', el('b', words(agent ?? name ?? role ?? 'crew')), el('p.text', words(message)));
    const known = id === undefined ? undefined : this.#messages.get(id);
    if (known) known.replaceWith(item);
    else this.panel.part('.messages').append(item);
    if (id !== undefined) this.#messages.set(id, item);
    this.panel.part('.empty').hidden = true;
    const talk = this.panel.part('.talk');
    talk.scrollTop = talk.scrollHeight;
  }
}

openPage({
  subject: {
    label: 'Execution id', id: 'run-1', valid: /^[A-Za-z0-9_\-]{1,64}$/, hint: '1 to 64 of A-Z a-z 0-9 _ -',
  },
  path: (id) => `/ws/crew_execution/${id}/`,
  group: (id) => `crew_execution_${id}`,
  view: (panel) => new Execution(panel),
  both: 'Start both crews',
});
