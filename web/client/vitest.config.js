// The timeout is that of a busy machine: whatever gets there has failed.
export default { resolve: { alias: { '@orgcast/client': new URL('src/index.ts', import.meta.url).pathname } }, test: { include: ['test/*.test.ts'], testTimeout: 120_000, hookTimeout: 120_000 } };
