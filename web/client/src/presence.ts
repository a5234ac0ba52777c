import type { Frame, Presence, PresenceChange } from './types.js';

/** Returns who is in a group after a frame about it. */
export function fold(known: Presence | undefined, frame: Frame): Presence {
  if (frame.type === 'presence') return frame as unknown as Presence;
  const { group, joined = [], left = [], count } = frame as unknown as PresenceChange;
  const users = known?.users && new Map(known.users.map((user) => [user.user_id, user])); // some users are not a list
  for (const { user_id } of left) users?.delete(user_id);
  for (const user of joined) users?.set(user.user_id, user);
  return { type: 'presence', group, ...(users && { users: [...users.values()] }), count };
}
