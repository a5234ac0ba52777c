// Builds the package into dist/; with --page, the file that the demo's pages load; with --check, only
// says whether that file is what the sources make.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, '..', 'demo', 'orgcast.js');

/** What the package exports. */
export const entries = ['index', 'core', 'react', 'vue', 'svelte'];

/**
 * Members by which the classes of the client know each other. No page sees them, no frame has them, and browsers
 * have none of these names on what we use. The package shortens them. Messages between tabs, whose builds may
 * differ, have three of them, quoted.
 */
const internal = [
  'answer', 'asking', 'attach', 'await', 'begin', 'blocked', 'carrier', 'detach', 'detours', 'drop', 'end', 'failed', 'fetching', 'fetchToken',
  'forget', 'giveUp', 'greet', 'handles', 'heard', 'knows', 'link', 'live', 'nudge', 'once', 'opened', 'opening', 'owner', 'parts', 'patience',
  'present', 'probe', 'protocols', 'quiet', 'receive', 'refused', 'shared', 'silent', 'slot', 'socket', 'streams', 'tabs', 'tell', 'use', 'wait',
  'wants', 'webSocket', 'write',
];

/** Returns one of them as one module; short ones have short names inside. */
export async function bundle({ entry = 'index', format = 'esm', minify = false, short = minify } = {}) {
  const { outputFiles } = await build({
    entryPoints: [join(here, 'src', `${entry}.ts`)],
    bundle: true, packages: 'external', external: ['@orgcast/client'], format, target: 'es2022', charset: 'utf8', minify, write: false,
    ...(short && { mangleProps: new RegExp(`^(${internal.join('|')})$`) }),
    absWorkingDir: here, banner: minify ? {} : { js: '// Built from web/client by `make client`; change it there.' },
  });
  return outputFiles[0].text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const readable = await bundle();
  switch (process.argv[2]) {
    case '--page':
      writeFileSync(page, readable);
      break;
    case '--check':
      if (readFileSync(page, 'utf8') !== readable) throw new Error('web/demo/orgcast.js is not what web/client makes: run make client');
      break;
    default: {
      const dist = join(here, 'dist');
      rmSync(dist, { recursive: true, force: true });
      const typescript = dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
      execFileSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', here], { stdio: ['ignore', 2, 2] });
      for (const entry of entries) {
        writeFileSync(join(dist, `${entry}.js`), await bundle({ entry, short: true }));
        writeFileSync(join(dist, `${entry}.cjs`), await bundle({ entry, format: 'cjs', short: true }));
      }
      // Types of a CommonJS module must not come from one that is none.
      for (const file of readdirSync(dist).filter((name) => name.endsWith('.d.ts'))) {
        const text = readFileSync(join(dist, file), 'utf8');
        writeFileSync(join(dist, file.replace('.d.ts', '.d.cts')), text.replaceAll(/(from '\.\/\w+)\.js'/g, "$1.cjs'"));
      }
      writeFileSync(join(dist, 'orgcast.min.js'), await bundle({ minify: true }));
    }
  }
}
