// The package as an application has it: packed, installed, and put together by bundlers.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as esbuild from 'esbuild';
import { build as vite } from 'vite';
import webpack from 'webpack';
import { root } from './gateway.js';

/** What pages have next to the client. */
const libraries = ['react', 'react-dom', 'vue', 'svelte'];

/** An application that shows notes with React, Vue and Svelte, over one socket. */
const application = `
import { connect } from '@orgcast/client';
import { useGroup, useStatus } from '@orgcast/client/react';
import * as svelte from '@orgcast/client/svelte';
import * as vue from '@orgcast/client/vue';
import { createElement, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { createApp, h, ref } from 'vue';

const client = window.client = connect('/ws/events', { maxWait: 1000 });
const place = (id) => document.body.appendChild(Object.assign(document.createElement('p'), { id }));

function Notes() {
  const { state } = useStatus(client);
  const [notes, setNotes] = useState([]);
  useGroup(client, 'room.1', { note: ({ text }) => setNotes((before) => [...before, text]) });
  return state + ' ' + notes;
}
createRoot(place('react')).render(createElement(Notes));

createApp({
  setup() {
    const status = vue.useStatus(client);
    const notes = ref([]);
    vue.useGroup(client, 'room.1', { note: ({ text }) => { notes.value.push(text); } });
    return () => h('span', status.value.state + ' ' + notes.value);
  },
}).mount(place('vue'));

const text = place('svelte');
svelte.latest(client, 'room.1', 'note').subscribe((note) => { text.textContent = note?.text ?? ''; });
`;

const bundlers = {
  async esbuild(folder) {
    const { outputFiles } = await esbuild.build({
      entryPoints: [join(folder, 'main.js')], bundle: true, minify: true, format: 'esm', write: false, define: { 'process.env.NODE_ENV': '"production"' },
    });
    return outputFiles[0].text;
  },
  async vite(folder) {
    writeFileSync(join(folder, 'index.html'), '<script type="module" src="/main.js"></script>');
    const { output } = await vite({ root: folder, configFile: false, logLevel: 'warn', build: { write: false } });
    return output.find(({ type }) => type === 'chunk').code;
  },
  async webpack(folder) {
    const path = join(folder, 'out');
    const stats = await new Promise((resolve, reject) => {
      webpack({ context: folder, entry: './main.js', mode: 'production', performance: false, output: { path } }, (error, done) => error ? reject(error) : resolve(done));
    });
    if (stats.hasErrors()) throw new Error(stats.toString('errors-only'));
    return readFileSync(join(path, 'main.js'), 'utf8');
  },
};

/** Installs the packed package in a folder next to what an application has, links to other packages by their names. */
export function install(folder, links) {
  const modules = join(folder, 'node_modules');
  mkdirSync(join(modules, '@orgcast', 'client'), { recursive: true });
  // One at a time: packing builds the package in its folder.
  execFileSync('flock', ['--no-fork', join(tmpdir(), 'orgcast-client-pack.lock'), 'npm', 'pack', '--pack-destination', folder], { cwd: join(root, 'web', 'client'), stdio: 'ignore' });
  const file = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  execFileSync('tar', ['-xzf', join(folder, file), '-C', join(modules, '@orgcast', 'client'), '--strip-components=1']);
  for (const [name, to] of Object.entries(links)) symlinkSync(to, join(modules, name));
  return join(modules, '@orgcast', 'client');
}

/** Returns what bundlers make of the application, and the module for pages without one: scripts by their names. */
export async function scripts(folder) {
  mkdirSync(folder);
  const installed = install(folder, Object.fromEntries(libraries.map((name) => [name, join(root, 'web', 'node_modules', name)])));
  writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}');
  writeFileSync(join(folder, 'main.js'), application);
  const made = {};
  for (const [name, bundle] of Object.entries(bundlers)) made[name] = await bundle(folder);
  return { made, alone: readFileSync(join(installed, 'dist', 'orgcast.min.js'), 'utf8') };
}
