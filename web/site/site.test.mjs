// The built site of the documentation (make site): links and headings, no file from elsewhere, search,
// narrow windows, and diagrams in light and dark. SHOTS=folder keeps pictures.
import assert from 'node:assert/strict';
import { readFile, readdir, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, relative } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const root = new URL('../../site/', import.meta.url).pathname;
const kinds = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.json': 'application/json', '.svg': 'image/svg+xml', '.png': 'image/png' };
let server, base, browser;

before(async () => {
  await stat(join(root, 'index.html')).catch(() => assert.fail('there is no site: run make site'));
  server = createServer(async (request, response) => {
    let path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    if (path.endsWith('/')) path += 'index.html';
    try {
      const body = await readFile(join(root, path));
      response.writeHead(200, { 'Content-Type': kinds[extname(path)] ?? 'application/octet-stream' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  base = `http://127.0.0.1:${server.address().port}/`;
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

// built returns the paths of all files with an ending.
async function built(ending) {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries.filter((e) => e.isFile() && e.name.endsWith(ending)).map((e) => relative(root, join(e.path, e.name)));
}

// open opens a page and counts what it loads. Anything from elsewhere is refused, and remembered.
async function open(path, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const foreign = [], failed = [];
  await page.route('**', (route) => {
    const url = route.request().url();
    if (url.startsWith(base) || url.startsWith('data:') || url.startsWith('blob:')) return route.continue();
    foreign.push(url);
    return route.abort();
  });
  page.on('response', (r) => { if (r.status() >= 400) failed.push(`${r.status()} ${r.url()}`); });
  page.on('pageerror', (e) => failed.push(String(e)));
  await page.goto(base + path, { waitUntil: 'networkidle' });
  return { page, foreign, failed, close: () => context.close() };
}

const shot = async (page, name) => {
  if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${name}.png`) });
};

test('every link leads to a page and a heading, and nothing is loaded from elsewhere', async () => {
  const all = await built('.html');
  const ids = new Map(), links = [];
  const wrong = [];
  for (const name of all) {
    const html = await readFile(join(root, name), 'utf8');
    ids.set(name, new Set([...html.matchAll(/\sid="([^"]+)"/g)].map((m) => decode(m[1]))));
    for (const [, tag, attribute, value] of html.matchAll(/<(\w+)[^>]*?\s(href|src|action)="?([^"\s>]*)/g)) {
      if (tag !== 'a' && /^(https?:)?\/\//.test(value)) wrong.push(`${name} loads ${value}`);
      if (attribute !== 'action' && !/^([a-z]+:|\/\/)/.test(value)) links.push([name, decode(value)]);
    }
  }
  for (const name of await built('.css')) {
    const css = await readFile(join(root, name), 'utf8');
    for (const [url] of css.matchAll(/url\(["']?(https?:)?\/\/[^)]*/g)) wrong.push(`${name} loads ${url}`);
  }
  for (const [from, link] of links) {
    const url = new URL(link, `http://x/${from.replace(/index\.html$/, '')}`);
    let path = decodeURIComponent(url.pathname).slice(1);
    if (from === '404.html') continue; // its links begin at the root of the domain
    if (path === '' || path.endsWith('/')) path += 'index.html';
    if (!(await stat(join(root, path)).catch(() => null))?.isFile()) wrong.push(`${from}: ${link} leads nowhere`);
    else if (url.hash && path.endsWith('.html') && !ids.get(path).has(decodeURIComponent(url.hash.slice(1)))) wrong.push(`${from}: ${link} has no such heading`);
  }
  assert.deepEqual(wrong, []);
  assert.ok(links.length > 1000, `only ${links.length} links`);
});

const decode = (text) => text.replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&lt;', '<').replaceAll('&gt;', '>');

test('pages open without errors and without requests to other hosts', async () => {
  for (const path of ['', 'protocol/', 'architecture/', 'source/deploy/', 'decisions/', 'source/examples/express/live.js/']) {
    const { page, foreign, failed, close } = await open(path);
    assert.deepEqual([foreign, failed], [[], []], path);
    await shot(page, `wide-${path.replaceAll('/', '_')}`);
    await close();
  }
});

test('search finds a page', async () => {
  const { page, foreign, close } = await open('');
  await page.fill('.md-search__input', 'idempotency');
  await page.waitForSelector('.md-search-result__link');
  const found = await page.$$eval('.md-search-result__link', (list) => list.map((a) => a.getAttribute('href')));
  assert.ok(found.some((href) => href.includes('/protocol/')), found.join(' '));
  assert.deepEqual(foreign, []);
  await shot(page, 'search');
  await close();
});

test('at 375 pixels no page is wider than the window', async () => {
  for (const path of ['', 'protocol/', 'configuration/', 'architecture/', 'observe/', 'consumers/']) {
    const { page, close } = await open(path, { viewport: { width: 375, height: 700 } });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    await shot(page, `narrow-${path.replaceAll('/', '_')}`);
    assert.ok(width <= 375, `${path}: ${width} pixels`);
    await close();
  }
});

test('diagrams are drawn, light and dark as the browser prefers', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const { page, foreign, failed, close } = await open('life-of-an-event/', { colorScheme });
    await page.waitForSelector(`.diagram[data-drawn=${colorScheme}] svg`);
    assert.deepEqual([foreign, failed], [[], []]);
    const [r] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
    assert.equal(r < 128, colorScheme === 'dark', `background ${r}`);
    await shot(page, `diagram-${colorScheme}`);
    await close();
  }
  let pages = 0;
  for (const name of await built('index.html')) {
    if (!(await readFile(join(root, name), 'utf8')).includes('class="diagram"')) continue;
    pages++;
    const { page, failed, close } = await open(name.replace(/index\.html$/, ''));
    await page.waitForFunction(() => [...document.querySelectorAll('.diagram')].every((d) => d.dataset.drawn && d.querySelector('svg')));
    assert.deepEqual(failed, [], name);
    await close();
  }
  assert.ok(pages > 1, `${pages} pages with diagrams`);
});
