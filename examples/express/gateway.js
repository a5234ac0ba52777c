// The private listener of the gateway.

import { Orgcast } from '../../clients/node/orgcast.mjs';

export const gateway = new Orgcast(process.env.NOTES_GATEWAY, process.env.NOTES_PUBLISH_KEY, { timeout: 10_000 });

/** Closes sockets at once. If the gateway cannot be reached, its next question finds out: the user must not fail for it. */
export async function announce(message) {
  await gateway.revoke(message).catch((error) => console.error(`announce: ${error.message}`));
}
