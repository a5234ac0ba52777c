// Answers the gateway: whose are these session cookies? It only reads.

import { createHash, timingSafeEqual } from 'node:crypto';
import { unsealData } from 'iron-session';
import { memberships } from '../../../lib/people.js';
import { password, sessionName } from '../../../lib/session.js';

const digest = (text) => createHash('sha256').update(text).digest();

export async function POST(request) {
  const bearer = digest(request.headers.get('authorization') ?? '');
  if (!timingSafeEqual(bearer, digest(`Bearer ${process.env.NOTES_SESSION_KEY}`))) return new Response(null, { status: 401 });
  const { cookies } = await request.json();
  if (!Array.isArray(cookies) || cookies.length > 256) return new Response(null, { status: 400 });
  const sessions = await Promise.all(cookies.map(open));
  const people = await memberships(sessions);
  const end = Math.floor(Date.now() / 1000) + 3600; // after each question; a seal that has run out opens nothing
  return Response.json({ identities: people.map((person, i) => (person.code ? person : {
    ...person, session_id: sessionName(sessions[i]), expires_at: end,
  })) });
}

/** The session in a cookie, {} if it holds none. */
async function open(cookie) {
  try {
    return await unsealData(decodeURIComponent(cookie), { password: password() });
  } catch {
    return {}; // not sealed, or not encoded, as cookies are
  }
}
