// Starts what the tests need: the gateway, a redis-server, browsers. Everything that was started is
// ended by its own process id.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** How long tests wait for what must happen: far longer than it takes on a busy machine, since a test that gets there has failed. */
export const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 120_000);

/** A folder of this run; also keeps the binary, which all tests of a file share. */
export class Workshop {
  #undo = [];
  #children = new Set();

  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), 'orgcast-e2e-'));
    const remove = () => rmSync(this.dir, { recursive: true, force: true });
    this.#undo.push(remove);
    // A file that fails before its first test never closes its workshop.
    process.once('exit', () => {
      for (const child of this.#children) child.kill('SIGKILL');
      remove();
    });
    this.binary = process.env.GATEWAY_BINARY ?? join(this.dir, 'gateway');
    if (!process.env.GATEWAY_BINARY) {
      execFileSync('go', ['build', '-o', this.binary, './cmd/gateway'], { cwd: root, stdio: 'inherit' });
    }
  }

  onClose(undo) {
    this.#undo.push(undo);
  }

  async close() {
    for (const undo of this.#undo.reverse()) await undo();
    this.#undo = [];
  }

  /** Runs a process until the workshop closes; resolves when it printed what ready finds. */
  async run(command, args, ready) {
    return (await this.start(command, args, ready)).found;
  }

  /** The same for a process that may be stopped before: resolves to what was found and a function that stops it. */
  async start(command, args, ready) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.dir });
    this.#children.add(child);
    const gone = new Promise((resolve) => child.once('exit', resolve)).then(() => this.#children.delete(child));
    const stop = async () => {
      child.kill('SIGTERM');
      const hard = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
      await gone;
      clearTimeout(hard);
    };
    this.onClose(stop);
    let output = '';
    const found = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${command} is not ready:\n${output}`)), PATIENCE_MS);
      const look = (chunk) => {
        output += chunk;
        const found = ready(output);
        if (!found) return;
        clearTimeout(timer);
        resolve(found);
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`${command} ended with ${code}:\n${output}`)));
    });
    return { found, stop };
  }

  /** Starts the demo and returns its address, without a slash at the end. */
  async demo(...args) {
    const [, url] = await this.run(this.binary, ['demo', '--listen', '127.0.0.1:0', ...args],
      (output) => output.match(/(http:\/\/127\.0\.0\.1:\d+)\//));
    return url;
  }

  /** Starts a redis-server and returns its port. Somebody else may take one that was free a moment before. */
  async redis() {
    for (let tries = 10; ; tries--) {
      const port = await freePort();
      try {
        await this.run('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.dir],
          (output) => output.includes('Ready to accept connections'));
        return port;
      } catch (error) {
        if (tries === 0 || !error.message.includes('in use')) throw error;
      }
    }
  }

  /** Starts a browser whose profile allows cookies of third parties. */
  async browserWithThirdPartyCookies(options) {
    const profile = mkdtempSync(join(this.dir, 'profile-'));
    mkdirSync(join(profile, 'Default'));
    writeFileSync(join(profile, 'Default', 'Preferences'),
      JSON.stringify({ profile: { block_third_party_cookies: false, cookie_controls_mode: 0 } }));
    const context = await chromium.launchPersistentContext(profile, { ...launch(), ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    this.onClose(() => context.close());
    return context;
  }

  /** Starts a browser, in whose contexts everything has its time. */
  async browser(options) {
    const browser = await chromium.launch({ ...launch(), ...options });
    browser.on('context', (context) => context.setDefaultTimeout(PATIENCE_MS));
    this.onClose(() => browser.close());
    return browser;
  }

  /** Serves a handler of raw connections or HTTP requests and returns its port. */
  async listen(server) {
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.onClose(() => new Promise((resolve) => {
      server.closeAllConnections?.();
      server.close(resolve);
    }));
    return server.address().port;
  }

  /**
   * Puts a wire tap in front of the gateway: it passes bytes on unchanged and keeps the head of each
   * request with the first line of its answer, so that a test sees what a browser really sent.
   */
  async tap(url) {
    const seen = [];
    const open = new Set();
    const server = createServer((client) => {
      const upstream = connect(Number(new URL(url).port), '127.0.0.1');
      let exchange = null; // one after the other: browsers do not pipeline
      for (const socket of [client, upstream]) {
        open.add(socket);
        socket.on('close', () => open.delete(socket));
        socket.on('error', () => { client.destroy(); upstream.destroy(); });
      }
      client.on('data', (chunk) => {
        const text = chunk.toString('latin1');
        if (/^[A-Z]+ \S+ HTTP\/1\.1\r\n/.test(text)) seen.push(exchange = { request: '', status: 0 });
        if (!exchange.request.includes('\r\n\r\n')) exchange.request += text;
      });
      upstream.on('data', (chunk) => {
        const [, status] = chunk.toString('latin1').match(/^HTTP\/1\.1 (\d{3}) /) ?? [];
        if (status) exchange.status = Number(status);
      });
      client.pipe(upstream).pipe(client);
    });
    this.onClose(() => { for (const socket of open) socket.destroy(); });
    const port = await this.listen(server);
    return { port, seen };
  }
}

function launch() {
  return {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    timeout: PATIENCE_MS,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.test 127.0.0.1'],
  };
}

/**
 * A port at which nobody listens, for a server that is stopped and started again. It is none that Linux gives to
 * outgoing connections, which may take those at any time, and none that the Go tests use.
 */
export async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 6_000);
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
