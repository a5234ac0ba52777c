// The timeout is that of a busy machine: whatever gets there has failed.
export default { test: { include: ['test/*.test.ts'], testTimeout: 120_000, hookTimeout: 120_000 } };
