// The session of iron-session: the whole of it is in the cookie.

import { createHash } from 'node:crypto';
import { getIronSession } from 'iron-session';
import { cookies } from 'next/headers';
import { redirect } from 'next/navigation';

export const password = () => process.env.NOTES_SESSION_SECRET;

export const session = async () => getIronSession(await cookies(), {
  cookieName: 'notes_session', password: password(), cookieOptions: { sameSite: 'lax', secure: true, httpOnly: true },
});

/** The session of a user who has signed in; others are sent to do so. */
export async function signedIn() {
  const own = await session();
  if (!own.user) redirect('/sign-in');
  return own;
}

/** The name of a session for the gateway. It does not open the session. */
export const sessionName = ({ id }) => createHash('sha256').update(`orgcast:${id}`).digest('base64url');
