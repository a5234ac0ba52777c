import { join } from 'node:path';

const root = join(import.meta.dirname, '..', '..'); // clients/node is there

export default { turbopack: { root }, outputFileTracingRoot: root, poweredByHeader: false };
