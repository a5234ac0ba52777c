// Shows the board, and what others change on it.

import { connect } from '/orgcast.js';

const columns = ['To do', 'Doing', 'Done'];
const cards = new Map(); // by id: what is known of a card, and its item
const post = (url, body) => fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
const make = (name, properties) => Object.assign(document.createElement(name), properties);

const lists = new Map(columns.map((column) => {
  const section = document.querySelector('#board').appendChild(document.createElement('section'));
  section.append(make('h2', { textContent: column }));
  section.addEventListener('dragover', (event) => event.preventDefault());
  section.addEventListener('drop', (event) => move(event.dataTransfer.getData('text/plain'), column));
  return [column, section.appendChild(document.createElement('ul'))];
}));

/** Shows a card, unless a newer version is shown already: events and the board itself may overtake each other. */
function show({ id, text, column, version }) {
  const known = cards.get(id);
  if (known && known.version > version) return;
  const item = known?.item ?? make('li', { draggable: true, ondragstart: (event) => event.dataTransfer.setData('text/plain', id) });
  cards.set(id, { text, column, version, item });
  const here = item.contains(document.activeElement) && document.activeElement.textContent;
  item.replaceChildren(text, make('br'));
  item.ariaBusy = 'false';
  const at = columns.indexOf(column);
  for (const [label, to] of [['←', columns[at - 1]], ['→', columns[at + 1] ?? 'Archive']]) {
    if (to) item.append(make('button', { textContent: label, ariaLabel: `Move ${text} to ${to}`, onclick: () => move(id, to) }), ' ');
  }
  const list = lists.get(column);
  if (!list) item.remove(); // archived
  else if (item.parentElement !== list) list.append(item);
  if (here) [...item.querySelectorAll('button')].find(({ textContent }) => textContent === here)?.focus();
}

/** Shows the change at once, and takes it back if the site refuses it. */
async function move(id, column) {
  const card = cards.get(id);
  if (!card || card.column === column) return;
  const before = { id, ...card };
  show({ id, ...card, column });
  cards.get(id).item.ariaBusy = 'true';
  const answer = await post('/api/cards', { id, column }).catch(() => {});
  if (!answer?.ok) show({ ...before });
}

async function load() {
  const board = await fetch('/api/board');
  if (!board.ok) return undefined;
  const { cards: all, ...rest } = await board.json();
  for (const card of all) show(card);
  return rest;
}

/** Signs in without a password, as one of three people. */
function signIn() {
  for (const user of ['ada', 'alan', 'grace']) {
    const onclick = async () => { if ((await post('/api/sign-in', { user })).ok) location.reload(); };
    document.querySelector('#people').append(make('button', { textContent: `Sign in as ${user}`, onclick }), ' ');
  }
}

const me = await load();
if (me) start(me);
else signIn();

function start({ user, organization, socket }) {
  const client = connect(socket);
  const say = (text) => { document.querySelector('#who').textContent = `${user} of ${organization}, ${text}`; };
  client.onStatus(({ state }) => say(state));
  say('connecting');
  const board = client.group('room.board', { presence: true });
  board.on('presence', ({ users = [] }) => {
    document.querySelector('#here').textContent = `Here: ${users.map(({ user_id: name }) => name).sort().join(', ')}`;
  });
  board.on('card', show);
  board.on('subscribed', load); // what changed before the first event
  board.on('gap', load);

  const form = document.querySelector('#add');
  form.hidden = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const { text } = form.elements;
    const answer = await post('/api/cards', { id: crypto.randomUUID(), text: text.value }).catch(() => {});
    if (answer?.ok) text.value = ''; // the card comes as an event
  });
}
