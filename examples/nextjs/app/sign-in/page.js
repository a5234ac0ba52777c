import { signIn } from '../actions.js';

export default function SignIn() {
  return (
    <form action={signIn}>
      <label>User <input name="user" /></label>
      <label>Password <input name="password" type="password" /></label>
      <button>Sign in</button>
    </form>
  );
}
