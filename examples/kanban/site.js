// A Kanban board for each organization. Every change is an event, so all open boards show it.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Orgcast } from '../../clients/node/orgcast.mjs';

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

// The boards, which a database would hold.

const isID = (id) => typeof id === 'string' && /^[\w-]{1,64}$/.test(id);
const columns = ['To do', 'Doing', 'Done', 'Archive'];
const boards = new Map(Object.values(organizations).map((organization) => [organization, new Map()]));

/** Makes a card or changes one, and tells all boards of the organization. Returns whether it was valid. */
async function change(organization, { id, text, column }) {
  const board = boards.get(organization);
  const known = board.get(id);
  const card = { version: 0, ...known, id, text: text ?? known?.text, column: column ?? known?.column ?? columns[0] };
  const valid = isID(id) && typeof card.text === 'string' && card.text.trim() && card.text.length <= 200 && columns.includes(card.column);
  if (!valid || (!known && board.size >= 500)) return false;
  card.version++;
  board.set(id, card);
  await orgcast.record(organization, 'room.board', { type: 'card', ...card });
  return true;
}

const file = (path, type) => ({ type, text: readFileSync(new URL(path, import.meta.url)) });
const files = {
  '/': file('index.html', 'text/html; charset=utf-8'),
  '/board.js': file('board.js', 'text/javascript'),
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
  const organization = organizations[user];
  if (url === '/api/board') return [200, { user, organization, socket: SOCKET, cards: [...boards.get(organization).values()] }];
  if (post && url === '/api/cards') return [await change(organization, await bodyOf(request)) ? 200 : 400];
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
