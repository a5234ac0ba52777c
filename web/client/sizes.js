// Prints how large the clients of other servers are, each bundled and compressed in the same way as this
// one. It installs them in a temporary folder.
// Usage: node web/client/sizes.js

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { bundle } from './build.js';

/** What a page imports to connect and to subscribe. */
const others = {
  'centrifuge': "export { Centrifuge } from 'centrifuge'",
  'pusher-js': "export { default } from 'pusher-js'",
  'socket.io-client': "export { io } from 'socket.io-client'",
  'phoenix': "export { Socket } from 'phoenix'",
  'partysocket': "export { PartySocket } from 'partysocket'",
  '@supabase/realtime-js': "export { RealtimeClient } from '@supabase/realtime-js'",
};

const compressed = (code) => gzipSync(code, { level: 9 }).length;
const rows = [];
for (const entry of ['index', 'core']) rows.push([`@orgcast/client${entry === 'core' ? '/core' : ''}`, '', compressed(await bundle({ entry, minify: true }))]);

const folder = mkdtempSync(join(tmpdir(), 'sizes-'));
try {
  writeFileSync(join(folder, 'package.json'), '{"private":true}');
  execFileSync('npm', ['install', '--silent', '--ignore-scripts', ...Object.keys(others)], { cwd: folder, stdio: ['ignore', 2, 2] });
  for (const [name, code] of Object.entries(others)) {
    const { version } = JSON.parse(readFileSync(join(folder, 'node_modules', name, 'package.json'), 'utf8'));
    const { outputFiles } = await build({
      stdin: { contents: code, resolveDir: folder }, bundle: true, format: 'esm', target: 'es2022', charset: 'utf8', platform: 'browser', minify: true, write: false,
    });
    rows.push([name, version, compressed(outputFiles[0].text)]);
  }
} finally {
  rmSync(folder, { recursive: true });
}
for (const [name, version, size] of rows) console.log(`${name.padEnd(24)} ${version.padEnd(10)} ${size.toLocaleString('en').padStart(7)} bytes`);
