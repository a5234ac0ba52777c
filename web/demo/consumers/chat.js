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
        type: 'user_message', message, request_id: crypto.randomUUID(),
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
      panel.send({ type: 'start_crew', crew_id: 'writers', request_id: crypto.randomUUID() });
    });
  }

  start() {
    const message = this.draft.value.trim() || QUESTION;
    return this.panel.send({ type: 'user_message', message, request_id: crypto.randomUUID() });
  }

  reset() {
    this.panel.part('.messages').replaceChildren();
    delete this.panel.part('.talk').dataset.participant;
    this.question?.close(); // a panel resets its view before that is complete
  }

  frame(frame) {
    switch (frame.type) {
      case 'system_message':
        // The first one ends the history; a later one says that a crew takes part.
        if (!this.panel.part('.talk').dataset.participant) this.panel.status(frame.connection_status);
        this.panel.part('.talk').dataset.participant = frame.participant_type;
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
      case 'conversation_cut':
        this.#cut(frame.message_id);
        break;
      case 'task_failed':
        this.#note('Nobody will answer: the task was refused. Send the message again.');
        this.panel.status('failed');
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

  // A message that is sent again comes again, and stands there once.
  #say(side, who, text, messageID) {
    const item = el(`li.${side}`, el('b', who), el('p.text', text));
    if (side === 'mine' && messageID) {
      if (this.#shown(messageID)) return;
      item.dataset.message = messageID;
      const edit = el('button.quiet', 'Edit');
      edit.type = 'button';
      edit.setAttribute('aria-label', `Edit: ${text}`);
      edit.addEventListener('click', () => {
        if (this.panel.send({ type: 'edit', message_id: messageID, request_id: crypto.randomUUID() })) this.draft.value = text;
      });
      item.append(edit);
    }
    this.#add(item);
  }

  #shown(messageID) {
    return [...this.panel.part('.messages').children].find((item) => item.dataset.message === messageID);
  }

  // Removes a message and what followed, or everything if the message is not shown.
  #cut(messageID) {
    const items = [...this.panel.part('.messages').children];
    const from = items.indexOf(this.#shown(messageID));
    for (const item of items.slice(Math.max(from, 0))) item.remove();
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
  both: 'Send on both sides',
  shared: false, // a conversation is its owner's
});
