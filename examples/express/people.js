// Stands for the database: who there is, and who belongs to which organization.

const passwords = new Map([['ada', 'ada-password'], ['bob', 'bob-password']]);
const members = new Map([['ada', new Map([['acme', 'admin'], ['globex', 'member']])], ['bob', new Map([['globex', 'admin']])]]);

export const signIn = (user, password) => passwords.has(user) && passwords.get(user) === password;
export const organizations = (user) => [...members.get(user).keys()];
export const leave = (user, organization) => members.get(user).delete(organization);

/** Says who the users of some sessions are, as the gateway wants to know it. */
export async function memberships(sessions) {
  return sessions.map(({ user, organization }) => {
    if (!user) return { code: 'none' };
    if (!organization) return { code: 'no_organization' };
    const role = members.get(user)?.get(organization);
    return role ? { user_id: user, active_organization_id: organization, role } : { code: 'forbidden' };
  });
}
