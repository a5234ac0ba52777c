// Calls the private listener of the gateway.

/** Publishes an event or revokes a session, and throws if the gateway does not do it. */
export async function gateway(path, body) {
  const response = await fetch(`${process.env.NOTES_GATEWAY}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${process.env.NOTES_PUBLISH_KEY}` },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(2000),
  });
  if (!response.ok) throw new Error(`${path}: the gateway answered ${response.status}`);
}

/** Closes sockets at once. If the gateway cannot be reached, its next question finds out: the user must not wait for it. */
export async function announce(message) {
  await gateway('/v1/revoke', message).catch((error) => console.error(`announce: ${error.message}`));
}
