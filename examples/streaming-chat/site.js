// A chat whose answers come in pieces. Each piece is a recorded event, so a page can be reloaded in the middle.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Orgcast } from '../../clients/node/orgcast.mjs';
import { complete } from './model.js';

const { PORT, GATEWAY, SOCKET, PUBLISH_KEY, SESSION_KEY } = process.env;
const orgcast = new Orgcast(GATEWAY, PUBLISH_KEY);

// People and their sessions, which your application has already.

const organizations = { ada: 'acme', alan: 'acme', grace: 'globex' };
const sessions = new Map(); // users by the values of their cookies
const digest = (text) => createHash('sha256').update(text).digest();
const cookieOf = (request) => request.headers.cookie?.match(/\bexample_session=(\w+)/)?.[1];

/** Answers the gateway: whose are these cookies? */
function identities({ cookies }) {
  return { identities: cookies.map((cookie) => {
    const user = sessions.get(cookie);
    if (!user) return { code: 'none' };
    return { user_id: user, active_organization_id: organizations[user], session_id: digest(cookie).toString('base64url'), expires_at: Math.floor(Date.now() / 1000) + 3600 };
  }) };
}

// Conversations. Their events are in the history of their group, so the site keeps nothing.

const COLLECT_MS = 50;
const isID = (id) => typeof id === 'string' && /^[\w-]{1,64}$/.test(id);

/** Records the pieces of an answer as they come, some at a time. */
async function answer(organization, group, id, question) {
  let n = 0;
  let text = '';
  let sent = Date.now();
  const flush = async () => {
    await orgcast.record(organization, group, { type: 'token', answer: id, n: n++, text });
    text = '';
    sent = Date.now();
  };
  for await (const piece of complete(question)) {
    text += piece;
    if (Date.now() - sent >= COLLECT_MS) await flush();
  }
  if (text) await flush();
  await orgcast.record(organization, group, { type: 'done', answer: id });
}

/** Records a question, and has it answered. Returns whether it was valid. */
async function ask(user, { conversation, id, text }) {
  const valid = isID(conversation) && isID(id) && typeof text === 'string' && text.trim() && text.length <= 2_000;
  if (!valid) return false;
  const [organization, group] = [organizations[user], `room.chat.${conversation}`];
  const { repeated } = await orgcast.record(organization, group, { type: 'question', id, user, text }, `question:${id}`);
  if (!repeated) answer(organization, group, id, text).catch((error) => console.error(error.message));
  return true;
}

const file = (path, type) => ({ type, text: readFileSync(new URL(path, import.meta.url)) });
const files = {
  '/': file('index.html', 'text/html; charset=utf-8'),
  '/chat.js': file('chat.js', 'text/javascript'),
  '/orgcast.js': file('../../web/demo/orgcast.js', 'text/javascript'), // the browser client, as one module
};

async function bodyOf(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 65_536) throw new Error('too large');
  }
  return JSON.parse(text);
}

/** Returns the status of a response and its JSON. */
async function respond(request, response) {
  const { method, url, headers } = request;
  const post = method === 'POST' && headers['content-type'] === 'application/json'; // which no other site can send
  if (post && url === '/orgcast/identity') {
    if (!timingSafeEqual(digest(headers.authorization ?? ''), digest(`Bearer ${SESSION_KEY}`))) return [401];
    return [200, identities(await bodyOf(request))];
  }
  if (post && url === '/api/sign-in') {
    const { user } = await bodyOf(request);
    if (!Object.hasOwn(organizations, user)) return [403];
    const key = randomBytes(32).toString('hex');
    sessions.set(key, user);
    response.setHeader('Set-Cookie', `example_session=${key}; HttpOnly; SameSite=Lax; Path=/`);
    return [200, {}];
  }
  const user = sessions.get(cookieOf(request));
  if (!user) return [401];
  if (url === '/api/me') return [200, { user, organization: organizations[user], socket: SOCKET }];
  if (post && url === '/api/ask') return [await ask(user, await bodyOf(request)) ? 200 : 400];
  return [404];
}

function failed(error) {
  console.error(error.message);
  return [500];
}

const server = createServer(async (request, response) => {
  const found = files[request.url];
  if (found) {
    response.setHeader('Content-Type', found.type);
    response.end(found.text);
    return;
  }
  const [status, body = {}] = await respond(request, response).catch(failed);
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(body));
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(`open http://localhost:${PORT}/`));
