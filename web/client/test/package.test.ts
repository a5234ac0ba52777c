// What is published, and what the demo's pages load.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { expect, test } from 'vitest';
import { bundle, entries } from '../build.js';

const here = new URL('..', import.meta.url);

test.each([['index', 7 * 1024], ['core', 4.5 * 1024]] as const)('%s is at most %d bytes compressed', async (entry, most) => {
  const size = gzipSync(await bundle({ entry, minify: true }), { level: 9 }).length;
  expect(size).toBeLessThanOrEqual(most);
});

test('docs/client.md says how large they are', async () => {
  const page = readFileSync(new URL('../../docs/client.md', here), 'utf8');
  for (const [entry, name] of [['index', '@orgcast/client'], ['core', '@orgcast/client/core']] as const) {
    const [, said] = page.match(new RegExp(`^\\| ${name} \\| [\\d.]+ \\| ([\\d,]+) `, 'm'))!;
    const size = gzipSync(await bundle({ entry, minify: true }), { level: 9 }).length;
    expect(Math.abs(Number(said!.replace(',', '')) - size), `${name} has ${size} bytes, the page says ${said}`).toBeLessThanOrEqual(8); // zlib differs a little
  }
});

test.each(['react', 'vue', 'svelte'])('%s has no client of its own: a page that imports both would load two', async (entry) => {
  expect((await bundle({ entry })).match(/class \w+/g)).toBeNull();
});

test('the file of the demo is what the sources make (else: make client)', async () => {
  expect(readFileSync(new URL('../demo/orgcast.js', here), 'utf8')).toBe(await bundle());
});

test('the package holds what it should and nothing else', async () => {
  const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  expect(files.map(({ path }: { path: string }) => path).sort()).toEqual([
    'README.md',
    ...readdirSync(new URL('src', here)).map((file) => file.replace('.ts', '')).flatMap((name) => [`dist/${name}.d.cts`, `dist/${name}.d.ts`]),
    ...entries.flatMap((name) => [`dist/${name}.cjs`, `dist/${name}.js`]),
    'dist/orgcast.min.js', 'package.json',
  ].sort());
  expect(JSON.parse(readFileSync(new URL('package.json', here), 'utf8'))).not.toHaveProperty('dependencies');
  const { messages } = await publint({ pkgDir: fileURLToPath(here), strict: true, pack: false });
  expect(messages).toEqual([]);
});

test('types and code agree, however the package is imported', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'orgcast-client-'));
  try {
    execFileSync('npm', ['pack', '--pack-destination', folder], { cwd: here, stdio: 'ignore' });
    const [file] = readdirSync(folder);
    const { problems } = await checkPackage(createPackageFromTarballData(readFileSync(join(folder, file!))), { excludeEntrypoints: ['./min'] }) as { problems: unknown[] };
    expect(problems).toEqual([]);
    execFileSync('tar', ['-xzf', join(folder, file!), '-C', folder]);
    for (const entry of ['', '/core']) {
      // Neither opens anything: there is no page.
      const made = `('/ws/events').group('room.1').name`;
      const run = (code: string, ...flags: string[]) => execFileSync(process.execPath, [...flags, '--eval', code], { cwd: join(folder, 'package'), encoding: 'utf8' });
      expect(run(`console.log(require('@orgcast/client${entry}').connect${made})`)).toBe('room.1\n');
      expect(run(`import { connect } from '@orgcast/client${entry}'; console.log(connect${made})`, '--input-type=module')).toBe('room.1\n');
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
