import { fileURLToPath } from 'node:url';
import { bundle } from './build.js';

const index = fileURLToPath(new URL('src/index.ts', import.meta.url));

/** Puts the module that pages load in place of the sources. */
const compressed = {
  name: 'compressed',
  enforce: 'pre',
  resolveId: (id) => id.endsWith('src/index.js') ? '\0compressed' : undefined,
  load: (id) => id === '\0compressed' ? bundle({ minify: true }) : undefined,
};

// The timeout is for a busy machine: a test that takes so long has failed.
const patience = { testTimeout: 120_000, hookTimeout: 120_000 };

export default {
  test: {
    projects: [
      { resolve: { alias: { '@orgcast/client': index } }, test: { name: 'sources', include: ['test/*.test.ts'], ...patience } },
      { plugins: [compressed], test: { name: 'compressed', include: ['test/{client,group,presence,stream}.test.ts'], ...patience } },
    ],
  },
};
