// Connection test: a greeting, then an echo of what is sent, at /ws/connection_test/.

import { el, milliseconds } from '../dom.js';
import { openPage } from './page.js';

const MAX_ANSWERS = 20;

class ConnectionTest {
  #sent = []; // when; answers come in order

  constructor(panel) {
    this.panel = panel;
    panel.part('.draft').value = 'Is anyone there?';
    panel.onSubmit('.start', () => this.start());
    panel.onClick('.wrong', () => this.#send({ message: 42 }));
  }

  start() {
    this.#send({ message: this.panel.part('.draft').value });
  }

  reset() {
    this.#sent = [];
    this.panel.part('.answers').replaceChildren();
    this.panel.part('.empty').hidden = false;
  }

  frame(frame) {
    switch (frame.type) {
      case 'greeting':
        this.panel.status(frame.message);
        break;
      case 'echo':
        this.#answer('echo', frame.message);
        break;
      case 'error':
        this.#answer(frame.code, frame.message);
        break;
    }
  }

  #send(frame) {
    if (this.panel.send(frame)) this.#sent.push(performance.now());
  }

  #answer(kind, text) {
    const sent = this.#sent.shift();
    const list = this.panel.part('.answers');
    list.prepend(el('li', el('span.tag', kind), el('span.what', text),
      el('span.time', sent === undefined ? '' : milliseconds(performance.now() - sent))));
    while (list.children.length > MAX_ANSWERS) list.lastElementChild.remove();
    this.panel.part('.empty').hidden = true;
  }
}

openPage({
  subject: null,
  path: () => '/ws/connection_test/',
  group: () => '',
  view: (panel) => new ConnectionTest(panel),
});
