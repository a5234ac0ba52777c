// Stands for the database: who there is, who belongs to which organization, and which one is active.

const passwords = new Map([['ada', 'ada-password'], ['bob', 'bob-password']]);
const people = globalThis.people ??= new Map([ // one for all bundles of Next.js
  ['ada', { active: 'acme', roles: new Map([['acme', 'admin'], ['globex', 'member']]) }],
  ['bob', { active: 'globex', roles: new Map([['globex', 'admin']]) }],
]);

export const knows = (user, password) => passwords.has(user) && passwords.get(user) === password;
export const active = (user) => people.get(user).active;
export const organizations = (user) => [...people.get(user).roles.keys()];
export const leave = (user) => people.get(user).roles.delete(active(user));

/** Makes an organization active, if the user belongs to it. */
export function activate(user, organization) {
  if (!people.get(user).roles.has(organization)) throw new Error('not a member');
  people.get(user).active = organization;
}

/** Says who the users of some sessions are, as the gateway wants to know it. */
export async function memberships(sessions) {
  return sessions.map(({ user }) => {
    if (!people.has(user)) return { code: 'none' };
    const { active: organization, roles } = people.get(user);
    if (!organization) return { code: 'no_organization' };
    return roles.has(organization) ? { user_id: user, active_organization_id: organization, role: roles.get(organization) } : { code: 'forbidden' };
  });
}
