import { organizations } from '../lib/people.js';
import { signedIn } from '../lib/session.js';
import { add, change, leave, signOut } from './actions.js';
import Live from './live.js';

export default async function Notes() {
  const { user } = await signedIn();
  return (
    <>
      <Live user={user} />
      <form action={add}><input name="text" aria-label="Note" /><button>Add</button></form>
      <form action={change}>{organizations(user).map((id) => <button key={id} name="organization" value={id}>{id}</button>)}</form>
      <form action={leave}><button>Leave the organization</button></form>
      <form action={signOut}><button>Sign out</button></form>
    </>
  );
}
