// Shows a conversation, whose name is in the address, and answers as they come.

import { connect } from '/orgcast.js';

if (!location.hash) location.replace(`#${crypto.randomUUID()}`);
addEventListener('hashchange', () => location.reload());
const conversation = location.hash.slice(1);

const items = new Map(); // by the id of the question: its item, the item of the answer, and the pieces of that
const post = (url, body) => fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
const make = (name, properties) => Object.assign(document.createElement(name), properties);

function exchange(id) {
  if (!items.has(id)) {
    const known = { question: make('li', { className: 'question' }), answer: make('li', { className: 'answer', ariaBusy: 'true' }), pieces: [] };
    items.set(id, known);
    document.querySelector('#messages').append(known.question, known.answer);
  }
  return items.get(id);
}

/** Takes an event once or several times, in any order. */
function take({ type, id, answer, n, text, user }) {
  const known = exchange(answer ?? id);
  if (type === 'question') known.question.textContent = `${user}: ${text}`;
  if (type === 'token') {
    known.pieces[n] = text;
    known.answer.textContent = known.pieces.join('');
  }
  if (type === 'done') known.answer.ariaBusy = 'false';
}

/** Reads all that was recorded, the newest page first, and takes it from the oldest event on. */
async function catchUp(group) {
  const events = [];
  for (let before, more = true; more;) {
    const page = await group.history({ before, limit: 500 });
    events.unshift(...page.events.map(({ event }) => event));
    before = page.events[0]?.id;
    more = page.more;
  }
  events.forEach(take);
}

/** Signs in without a password, as one of three people. */
function signIn() {
  for (const user of ['ada', 'alan', 'grace']) {
    const onclick = async () => { if ((await post('/api/sign-in', { user })).ok) location.reload(); };
    document.querySelector('#people').append(make('button', { textContent: `Sign in as ${user}`, onclick }), ' ');
  }
}

const me = await fetch('/api/me');
if (me.ok) start(await me.json());
else signIn();

function start({ user, organization, socket }) {
  const client = connect(socket);
  const say = (text) => { document.querySelector('#who').textContent = `${user} of ${organization}, ${text}`; };
  client.onStatus(({ state }) => say(state));
  say('connecting');
  const group = client.group(`room.chat.${conversation}`);
  const joined = group.on('subscribed', () => { // from here on nothing is missed
    joined();
    void catchUp(group);
  });
  group.on('gap', () => catchUp(group));
  for (const type of ['question', 'token', 'done']) group.on(type, take);

  const form = document.querySelector('#ask');
  form.hidden = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const { text } = form.elements;
    const answer = await post('/api/ask', { conversation, id: crypto.randomUUID(), text: text.value }).catch(() => {});
    if (answer?.ok) text.value = ''; // the question comes as an event
  });
}
