// A test that ends early leaves nothing behind.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const script = `
import { Workshop } from ${JSON.stringify(new URL('./gateway.js', import.meta.url))};
const workshop = new Workshop();
console.log(await workshop.redis());
throw new Error('this test cannot go on');
`;

test('a test that fails before its first test leaves no folder and no process', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'orgcast-workshop-'));
  try {
    const ran = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env: { ...process.env, TMPDIR: folder, GATEWAY_BINARY: 'unused' }, encoding: 'utf8' });
    assert.match(ran.stderr, /this test cannot go on/);
    assert.deepEqual(readdirSync(folder), []);
    const port = ran.stdout.trim();
    const ping = () => spawnSync('redis-cli', ['-p', port, 'ping'], { encoding: 'utf8' }).stdout.trim();
    while (ping() === 'PONG') { /* it was told to end */ }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, { timeout: 60_000 });
