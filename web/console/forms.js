// The forms of operators: explain and revoke.

import { h, say } from './dom.js';

let fields = 0;

/** A field with its label. */
function field(name, properties = {}) {
  const id = `field-${++fields}`;
  const input = h(properties.options ? 'select' : 'input', { id, autocomplete: 'off', spellcheck: 'false', ...properties, options: undefined },
    ...(properties.options ?? []).map(([value, text]) => h('option', { value }, text)));
  return { input, element: h('p', { class: 'field' }, h('label', { for: id }, name), input) };
}

export function explainForm(ask) {
  const organization = field('Organization', { required: true });
  const position = field('Position of a recorded event', { placeholder: '1790000000000-0' });
  const group = field('Group');
  const user = field('User');
  const since = field('or everything since', { placeholder: '5m' });
  const answer = h('div', { class: 'answer', role: 'status' });
  const element = h('form', {
    class: 'form',
    onsubmit: async (submitted) => {
      submitted.preventDefault();
      answer.replaceChildren('Asking all nodes');
      try {
        const { sentences } = await ask('/explain', {
          parameters: {
            organization_id: organization.input.value.trim(), position: position.input.value.trim(), group: group.input.value.trim(),
            user_id: user.input.value.trim(), since: since.input.value.trim(),
          },
        });
        answer.replaceChildren(h('ul', {}, ...sentences.map((sentence) => h('li', {}, sentence))));
      } catch (problem) {
        answer.replaceChildren(h('p', { class: 'problem' }, problem.message));
      }
    },
  }, organization.element, position.element, since.element, group.element, user.element,
  h('button', { class: 'primary' }, 'Explain'), answer);
  return { element, prefill: (id) => { organization.input.value = id; } };
}

// Which fields a revocation of a type has.
const REVOKES = {
  'session.ended': ['session_id'],
  'user.disabled': ['user_id'],
  'member.removed': ['organization_id', 'user_id'],
  'organization.suspended': ['organization_id'],
};

export function revokeForm(ask, done) {
  const type = field('What', {
    options: [['session.ended', 'End a session'], ['user.disabled', 'Disable a user everywhere'], ['member.removed', 'Remove a member'], ['organization.suspended', 'Suspend an organization']],
  });
  const values = { session_id: field('Session'), user_id: field('User'), organization_id: field('Organization') };
  const choose = () => {
    for (const [name, { element, input }] of Object.entries(values)) {
      element.hidden = !REVOKES[type.input.value].includes(name);
      input.required = !element.hidden;
    }
  };
  type.input.addEventListener('change', choose);
  choose();
  const outcome = h('p', { class: 'answer', role: 'status' });
  const button = h('button', { class: 'danger' }, 'Revoke');
  const element = h('form', {
    class: 'form',
    onsubmit: async (submitted) => {
      submitted.preventDefault();
      const body = { type: type.input.value };
      for (const name of REVOKES[body.type]) body[name] = values[name].input.value.trim();
      try {
        const { status } = await ask('/revoke', { body });
        say(outcome, status === 'revoked' ? 'Revoked. Its connections close within a second.' : 'Announced. The web application owns this record and must change it too, or they reconnect.');
        done();
      } catch (problem) {
        say(outcome, problem.message);
      }
    },
  }, type.element, ...Object.values(values).map((value) => value.element), button, outcome);
  return {
    element,
    prefill(of, given) {
      type.input.value = of;
      choose();
      for (const [name, value] of Object.entries(given)) values[name].input.value = value;
      say(outcome, '');
      element.scrollIntoView({ block: 'center' });
      button.focus();
    },
  };
}
