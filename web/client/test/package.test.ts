// What is published, and what the demo's pages load.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { publint } from 'publint';
import { expect, test } from 'vitest';
import { bundle } from '../build.js';

const here = new URL('..', import.meta.url);

test('the bundle is under 5.5 KiB', async () => {
  const size = gzipSync(await bundle({ minify: true }), { level: 9 }).length;
  expect(size).toBeLessThan(5.5 * 1024);
});

test('the file of the demo is what the sources make (else: make client)', async () => {
  expect(readFileSync(new URL('../demo/orgcast.js', here), 'utf8')).toBe(await bundle());
});

test('the package holds what it should and nothing else', async () => {
  const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  expect(files.map(({ path }: { path: string }) => path).sort()).toEqual([
    'README.md', 'dist/client.d.ts', 'dist/index.d.ts', 'dist/index.js', 'dist/orgcast.min.js', 'dist/types.d.ts', 'package.json',
  ]);
  expect(JSON.parse(readFileSync(new URL('package.json', here), 'utf8'))).not.toHaveProperty('dependencies');
  const { messages } = await publint({ pkgDir: fileURLToPath(here), strict: true, pack: false });
  expect(messages).toEqual([]);
});
