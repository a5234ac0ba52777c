// Chat: a conversation with a scripted agent and a scripted crew, at /ws/chat/?session=UUID.

import { el } from '../dom.js';
import { openPage } from './page.js';
import { Question, words } from './show.js';

/** What the documents have a passage about. */
const QUESTION = 'How are organizations kept apart?';

class Chat {
  constructor(panel) {
    this.panel = panel;
    this.question = new Question(panel.part('.question'), (message, { execution_id, task_index }) => {
      panel.send({
        type: 'user_message', message, client_id: crypto.randomUUID(),
        context: { is_human_input: true, execution_id, task_index },
      });
    });
    this.draft = panel.part('.draft');
    this.draft.value = QUESTION;
    panel.onSubmit('.say', () => {
      if (this.draft.value.trim() === '') panel.problem('Write something first.');
      else if (this.start()) this.draft.value = '';
    });
    panel.onClick('.crew', () => {
      panel.send({ type: 'start_crew', crew_id: 'writers', client_id: crypto.randomUUID() });
    });
  }

  start() {
    const message = this.draft.value.trim() || QUESTION;
    return this.panel.send({ type: 'user_message', message, client_id: crypto.randomUUID() });
  }

  reset() {
    this.panel.part('.messages').replaceChildren();
    this.question?.close(); // a panel resets its view before that is complete
  }

  frame(frame) {
    switch (frame.type) {
      case 'system_message':
        this.panel.status(frame.connection_status);
        break;
      case 'user_message':
        this.#say('mine', frame.user_id, frame.message, frame.message_id);
        this.panel.status('thinking');
        break;
      case 'agent_message':
      case 'crew_message':
        this.#say('theirs', frame.agent ?? 'Agent', words(frame));
        if (frame.context?.is_human_input) this.question.open(frame.context);
        break;
      case 'agent_finish':
        this.#say('theirs', 'Agent', words(frame));
        this.panel.status('done');
        break;
      case 'tool_start':
        this.#note(`Calls ${frame.content?.tool}: ${words(Object(frame.content).input?.query ?? frame.content?.input)}`);
        break;
      case 'tool_result': {
        const { result } = Object(frame.content);
        this.#note(Array.isArray(result) ? `Found ${result.length} passages` : words(frame.content));
        break;
      }
      case 'crew_started':
        this.#note(`Crew ${frame.crew_id} started as ${frame.execution_id}`);
        break;
      case 'execution_update':
        this.panel.status(frame.human_input_request ? 'needs you' : frame.status);
        if (!frame.human_input_request) this.question.close();
        break;
      case 'human_input_accepted':
        this.question.close();
        break;
      case 'error':
        this.panel.status('failed');
        break;
    }
  }

  #say(side, who, text, messageID) {
    const item = el(`li.${side}`, el('b', who), el('p.text', text));
    if (side === 'mine' && messageID) {
      const again = el('button.quiet', 'Ask again');
      again.type = 'button';
      again.setAttribute('aria-label', `Ask again: ${text}`);
      again.addEventListener('click', () => this.panel.send({ type: 'edit', message_id: messageID }));
      item.append(again);
    }
    this.#add(item);
  }

  #note(text) {
    this.#add(el('li.note', text));
  }

  #add(item) {
    this.panel.part('.messages').append(item);
    const talk = this.panel.part('.talk');
    talk.scrollTop = talk.scrollHeight;
  }
}

openPage({
  subject: {
    label: 'Conversation', id: '00000000-0000-4000-8000-000000000007', hint: 'a UUID in lower case',
    valid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
    next: () => crypto.randomUUID(),
  },
  path: (id) => `/ws/chat/?session=${id}`,
  group: (id) => `chat_${id}`,
  view: (panel) => new Chat(panel),
  both: 'Say it on both sides',
});
