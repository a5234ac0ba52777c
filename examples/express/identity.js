// Answers the gateway: whose are these session cookies? It only reads.

import { createHash, timingSafeEqual } from 'node:crypto';
import { unsign } from 'cookie-signature';

const digest = (text) => createHash('sha256').update(text).digest();

/** The name of a session for the gateway. It does not open the session. */
export const sessionName = (sid) => digest(`orgcast:${sid}`).toString('base64url');

/** The handler of POST /orgcast/identity. memberships(sessions) says who their users are, for all with one query. */
export function identity({ key, secret, store, memberships }) {
  return async (request, response) => {
    const bearer = digest(request.get('authorization') ?? '');
    if (!timingSafeEqual(bearer, digest(`Bearer ${key}`))) return response.sendStatus(401);
    const cookies = request.body?.cookies;
    if (!Array.isArray(cookies) || cookies.length > 256) return response.sendStatus(400);
    const sids = cookies.map((cookie) => unsigned(String(cookie), secret));
    const sessions = await Promise.all(sids.map((sid) => (sid ? store.get(sid) : null)));
    const people = await memberships(sessions.map((session) => session ?? {}));
    response.json({ identities: people.map((person, i) => (person.code ? person : {
      ...person, session_id: sessionName(sids[i]), expires_at: expiry(sessions[i].cookie),
    })) });
  };
}

/** The key in a cookie such as s%3AKEY.SIGNATURE, or false. */
function unsigned(cookie, secret) {
  try {
    const value = decodeURIComponent(cookie);
    return value.startsWith('s:') && unsign(value.slice(2), secret);
  } catch {
    return false; // not encoded as cookies are
  }
}

/** When the session ends, in Unix seconds. One that lasts as long as the browser is good for an hour after each question. */
const expiry = ({ expires }) => Math.floor((expires ? Date.parse(expires) : Date.now() + 3_600_000) / 1000);
