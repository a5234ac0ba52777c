// A page that sends and leaves at once: it closes its socket, or navigates away. Its messages are
// handled all the same, in order, as the history of the conversation shows.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PATIENCE_MS, Workshop } from './gateway.js';
import { seat, visit } from './page.js';

const MESSAGES = 3;

const workshop = new Workshop();
let browser;
let url;

before(async () => {
  browser = await workshop.browser();
  url = await workshop.demo('--pace', '1ms');
});
after(() => workshop.close());

/** Opens a page on which Ada is signed in. */
async function open(t) {
  const page = await visit(t, browser, `${url}/?left=ada&right=grace`);
  for (const side of ['left', 'right']) await seat(page, side).locator('.state[data-state="live"]').waitFor();
  return page;
}

/** Sends numbered messages to a conversation of Ada's, and leaves as soon as they are sent. */
const sendAndLeave = (page, session, leave) => page.evaluate(({ session, count, leave }) => new Promise((resolve) => {
  const socket = new WebSocket(`ws://${location.host}/seat/left/ws/chat/?session=${session}`);
  socket.onopen = () => {
    for (let i = 0; i < count; i++) socket.send(JSON.stringify({ type: 'user_message', message: `message ${i}`, request_id: `${session}-${i}` }));
    if (leave === 'navigate') {
      location.href = '/404.html';
      resolve();
    } else {
      socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean });
      socket.close(1000);
    }
  };
}), { session, count: MESSAGES, leave });

/** The ids of the first messages in a conversation of Ada's, as soon as there are so many. */
const said = (page, session) => page.evaluate(({ session, count, patience }) => new Promise((resolve, reject) => {
  const ids = [];
  const socket = new WebSocket(`ws://${location.host}/seat/left/ws/chat/?session=${session}`);
  const timer = setTimeout(() => reject(new Error(`only these have come: ${ids}`)), patience);
  socket.onmessage = ({ data }) => {
    const { type, message_id: id } = JSON.parse(data);
    if (type !== 'user_message' || ids.push(id) < count) return;
    clearTimeout(timer);
    socket.close();
    resolve(ids);
  };
}), { session, count: MESSAGES, patience: PATIENCE_MS / 4 });

const expected = (session) => Array.from({ length: MESSAGES }, (_, i) => `${session}-${i}`);

test('a page that sends and closes is heard', async (t) => {
  const page = await open(t);
  for (let round = 0; round < 10; round++) {
    const session = crypto.randomUUID();
    assert.deepEqual(await sendAndLeave(page, session, 'close'), { code: 1000, wasClean: true });
    assert.deepEqual(await said(page, session), expected(session));
  }
});

test('a page that sends and navigates away is heard', async (t) => {
  const page = await open(t);
  for (let round = 0; round < 5; round++) {
    const session = crypto.randomUUID();
    await Promise.all([page.waitForURL(`${url}/404.html`), sendAndLeave(page, session, 'navigate').catch(() => {})]);
    assert.deepEqual(await said(page, session), expected(session));
    await page.goto(`${url}/?left=ada&right=grace`);
    await seat(page, 'left').locator('.state[data-state="live"]').waitFor();
  }
});
