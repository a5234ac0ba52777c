// The component for Next.js of docs/client.md, with the packed client, as next builds, renders and serves it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { install } from '../bundles.js';
import { freePort, root, Workshop } from '../gateway.js';
import { proxy } from '../proxy.js';

const workshop = new Workshop();
after(() => workshop.close());

test('the component of docs/client.md is rendered without a socket, and connects in the browser', async () => {
  const example = join(root, 'examples', 'nextjs'); // for its packages: next follows no links out of its root
  const folder = mkdtempSync(join(example, '.live-'));
  workshop.onClose(() => rmSync(folder, { recursive: true, force: true }));
  install(folder, {});
  const block = readFileSync(join(root, 'docs', 'client.md'), 'utf8').match(/^```jsx\n('use client';\n.*?)^```$/ms)[1];
  mkdirSync(join(folder, 'app'));
  const files = {
    'package.json': '{"private":true,"type":"module"}',
    'next.config.js': `export default { turbopack: { root: ${JSON.stringify(example)} } };`,
    'app/layout.jsx': 'export default function Layout({ children }) { return <html lang="en"><body>{children}</body></html>; }',
    'app/page.jsx': "import Live from './live';\nexport default function Page() { return <Live room=\"room.1\" />; }",
    'app/live.jsx': block,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const next = [join(example, 'node_modules', 'next', 'dist', 'bin', 'next')];
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' };
  execFileSync('node', [...next, 'build', folder], { env, stdio: 'inherit' });

  const [site, key] = [await freePort(), 'cookie-key-cookie-key-cookie-key'];
  await workshop.run('node', [...next, 'start', folder, '--hostname', '127.0.0.1', '--port', String(site)], (output) => output.match(/Ready in/));
  const rendered = await (await fetch(`http://127.0.0.1:${site}/`)).text();
  assert.ok(rendered.includes('<p data-state="connecting">nothing yet</p>'), rendered);

  const redis = `redis://127.0.0.1:${await workshop.redis()}/0`;
  let gateway;
  const origin = `http://127.0.0.1:${await proxy(workshop, site, () => gateway)}`;
  [, gateway] = await workshop.run(workshop.binary, ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--redis', redis, '--session-keys', key,
    '--session-insecure', '--directory', 'session', '--origins', origin], (output) => output.match(/"public":"127.0.0.1:(\d+)"/));
  const browser = await workshop.browser();
  const context = await browser.newContext();
  const [name, value] = execFileSync(workshop.binary, ['session', 'mint', '--session-keys', key, '--session-insecure', 'ada', 'acme'], { encoding: 'utf8' }).trim().split(/=(.*)/s);
  await context.addCookies([{ name, value, url: origin }]);
  const page = await context.newPage();
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url()));
  await page.goto(`${origin}/`);
  await page.locator('p[data-state=open]').waitFor();
  const publish = () => execFileSync(workshop.binary, ['publish', '--redis', redis, 'acme', 'room.1', '{"type":"note","text":"one"}']);
  while (await page.locator('p').textContent() === 'nothing yet') publish(); // it may not have joined yet
  assert.equal(await page.locator('p').textContent(), 'one');
  assert.equal(sockets.filter((url) => url.endsWith('/ws/events')).length, 1);
});
