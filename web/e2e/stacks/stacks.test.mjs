// The examples of other frameworks, one like the other: real framework, gateway, Redis and browser.
// STACKS is a comma-separated list of those to test.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { freePort, PATIENCE_MS, root, Workshop } from '../gateway.js';
import { proxy } from '../proxy.js';
import { stacks } from './stacks.js';

const wanted = (process.env.STACKS ?? 'express,rails,laravel').split(',');
for (const name of wanted) assert.ok(Object.hasOwn(stacks, name), `STACKS: there is no ${name}`);

const workshop = new Workshop();
after(() => workshop.close());

const keys = { session: 'session-key-of-thirty-two-bytes!', publish: 'publish-key-of-thirty-two-bytes!' };
for (const [name, key] of Object.entries(keys)) writeFileSync(join(workshop.dir, `${name}-key`), key);
const client = readFileSync(join(root, 'web', 'demo', 'orgcast.js'), 'utf8');
const browser = await workshop.browser();

/** The blocks of the page about a framework: [language, text]. */
const blocks = (name) => [...readFileSync(join(root, 'docs', `${name}.md`), 'utf8').matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => [language, text]);

/** The arguments of the command on the page, with what stands for its addresses and files. */
function settings(name, substitutes) {
  const [, command] = blocks(name).find(([language]) => language === 'console')[1].match(/^\$ gateway (.*)$/m);
  return command.split(' ').map((word) => {
    for (const [text, actual] of substitutes) word = word.replace(text, actual);
    return word;
  });
}

/** Starts a site and a gateway that know each other, and a proxy in front of both. */
async function start(name) {
  const { command, args, ready } = stacks[name];
  const redis = await workshop.redis();
  const [port, privatePort] = [await freePort(), await freePort()];
  const environment = {
    NOTES_PORT: port, NOTES_FOLDER: workshop.dir, NOTES_REDIS: `redis://127.0.0.1:${redis}`, NOTES_GATEWAY: `http://127.0.0.1:${privatePort}`,
    NOTES_SESSION_KEY: keys.session, NOTES_PUBLISH_KEY: keys.publish, NOTES_SESSION_SECRET: 'secret-of-the-site-of-thirty-two-bytes!',
  };
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  await workshop.run('/usr/bin/env', [...variables, command, ...args], (output) => output.match(ready));
  const site = `http://127.0.0.1:${port}`;
  let publicPort;
  const origin = `http://127.0.0.1:${await proxy(workshop, port, () => publicPort, { '/orgcast.js': client })}`;
  const substitutes = [['127.0.0.1:6379', `127.0.0.1:${redis}`], ['http://127.0.0.1:8000', site], ['https://app.example.com', origin]];
  [, publicPort] = await workshop.run(workshop.binary, [...settings(name, substitutes), '--listen', '127.0.0.1:0', '--admin-listen', `127.0.0.1:${privatePort}`],
    (output) => output.match(/"serving".*?"public":"127\.0\.0\.1:(\d+)"/));
  return { site, origin, gateway: `http://127.0.0.1:${publicPort}`, metrics: `http://127.0.0.1:${privatePort}/metrics` };
}

/** Waits until an element has a text. */
const text = (page, id, wanted) => page.waitForFunction(([id, wanted]) => document.getElementById(id)?.textContent === wanted, [id, wanted], { timeout: PATIENCE_MS });

/** A user with two tabs: one watches, the other one acts. */
class Person {
  static async signIn(origin, user, organization) {
    const context = await browser.newContext();
    const person = Object.assign(new Person(), { context, watching: await context.newPage(), acting: await context.newPage() });
    await person.watching.goto(`${origin}/sign-in`);
    await person.watching.getByLabel('User').fill(user);
    await person.watching.getByLabel('Password').fill(`${user}-password`);
    await person.watching.getByRole('button', { name: 'Sign in' }).click();
    await text(person.watching, 'status', 'open');
    await text(person.watching, 'organization', organization);
    await person.acting.goto(`${origin}/`);
    return person;
  }

  press(name) {
    return this.acting.getByRole('button', { name, exact: true }).click();
  }

  async add(note) {
    await this.acting.getByLabel('Note').fill(note);
    await this.press('Add');
    await this.acting.waitForFunction(() => document.querySelector('[name=text]')?.value === '', undefined, { timeout: PATIENCE_MS }); // it is done
  }

  sees(note) {
    return this.watching.locator('#notes li').filter({ hasText: note }).waitFor();
  }

  seen() {
    return this.watching.locator('#notes li').allTextContents();
  }

  /** The session cookie, as it stands in the header. */
  async cookie(name) {
    return (await this.context.cookies()).find((cookie) => cookie.name === name).value;
  }
}

/** Asks the site as the gateway does. */
const ask = (site, cookies, key = keys.session) => fetch(`${site}/orgcast/identity`, {
  method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: JSON.stringify({ v: 1, cookies }),
});

/** Changes a character in the middle that is not part of an escape. */
function tampered(cookie) {
  let at = cookie.length >> 1;
  while (!/[A-Za-z]/.test(cookie[at]) || cookie.slice(at - 2, at).includes('%')) at++;
  return cookie.slice(0, at) + (cookie[at] === 'A' ? 'B' : 'A') + cookie.slice(at + 1);
}

/** The status of a connection with a cookie, once the site answers in time. */
async function connect({ gateway, origin }, cookie, value) {
  for (const end = Date.now() + PATIENCE_MS; ;) {
    const aborted = new AbortController();
    const { status } = await fetch(`${gateway}/sse/events`, { headers: { cookie: `${cookie}=${value}`, origin }, signal: aborted.signal });
    aborted.abort();
    if (status !== 503 || Date.now() > end) return status;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

for (const name of wanted) {
  test(`the example of ${name}`, async () => {
    const { cookie } = stacks[name];
    const where = await start(name);
    const { site, origin } = where;
    const ada = await Person.signIn(origin, 'ada', 'acme');
    const bob = await Person.signIn(origin, 'bob', 'globex');

    await ada.add('of acme');
    await ada.sees('of acme');
    await bob.add('of globex');
    await bob.sees('of globex');
    await ada.add('of acme again');
    await ada.sees('of acme again');
    assert.deepEqual([await ada.seen(), await bob.seen()], [['of acme', 'of acme again'], ['of globex']], 'the own organization, and nothing else');

    const [adas, bobs] = [await ada.cookie(cookie), await bob.cookie(cookie)];
    assert.ok([401, 403].includes((await ask(site, [adas], 'another-key')).status));
    assert.notEqual((await ask(site, Array(257).fill(adas))).status, 200, 'more cookies than a question has');
    const answer = await ask(site, [bobs, tampered(adas), adas, 'made-up', '%', '%ff', bobs, '']);
    assert.equal(answer.headers.get('set-cookie'), null, 'questions change no session');
    const { identities } = await answer.json();
    assert.deepEqual(identities.map(({ code, user_id, active_organization_id, role }) => code ?? `${user_id} ${active_organization_id} ${role}`),
      ['bob globex admin', 'none', 'ada acme admin', 'none', 'none', 'none', 'bob globex admin', 'none']);
    for (const { code, session_id: session, expires_at: end } of identities) {
      if (!code) assert.ok(/^[\w-]{20,64}$/.test(session) && end > Date.now() / 1000, `session ${session}, ${end}`);
    }

    await ada.press('globex');
    await text(ada.watching, 'organization', 'globex');
    await text(ada.watching, 'status', 'open');
    await bob.add('of globex again');
    await ada.sees('of globex again');

    await bob.press('Leave the organization'); // nothing is announced
    await text(bob.watching, 'status', 'closed 4403');
    assert.deepEqual(await (await ask(site, [await bob.cookie(cookie)])).json(), { identities: [{ code: 'forbidden' }] });

    const copy = await ada.cookie(cookie);
    assert.equal(await connect(where, cookie, copy), 200);
    await ada.press('Sign out');
    await text(ada.watching, 'status', 'closed 4401');
    assert.equal(await connect(where, cookie, copy), 401, 'a copy of the cookie');
    const metrics = await (await fetch(where.metrics)).text();
    for (const type of ['organization.switched', 'session.ended']) {
      assert.match(metrics, new RegExp(`^orgcast_control_messages_total{.*"${type}".*} [1-9]`, 'm'), `${type} was announced`);
    }
  });
}

for (const name of wanted) {
  test(`docs/${name}.md shows the lines of the example`, () => {
    const files = [...stacks[name].shown.map((file) => join(name, file)), join('django', 'nginx-orgcast.conf')];
    const shown = files.map((file) => readFileSync(join(root, 'examples', file), 'utf8')).join('\n');
    const quoted = blocks(name).filter(([language]) => language !== 'console');
    assert.ok(quoted.length > 3, 'the page shows the endpoint, the announcements, the proxy and the page');
    for (const [, text] of quoted) assert.ok(shown.includes(text), `the example has no\n${text}`);
  });
}
