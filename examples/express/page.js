// The pages of the site.

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const frame = (body) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Notes</title>
${body}
</html>
`;

export const signInPage = () => frame(`<form method="post" action="/sign-in">
  <label>User <input name="user"></label>
  <label>Password <input name="password" type="password"></label>
  <button>Sign in</button>
</form>`);

export const notesPage = ({ user, organizations }) => frame(`<h1>${escape(user)} of <span id="organization">no organization</span></h1>
<p id="status"></p>
<ol id="notes"></ol>
<form method="post" action="/notes"><input name="text" aria-label="Note"><button>Add</button></form>
<form method="post" action="/switch">${organizations.map((id) => `<button name="organization" value="${escape(id)}">${escape(id)}</button>`).join(' ')}</form>
<form method="post" action="/leave"><button>Leave the organization</button></form>
<form method="post" action="/sign-out"><button>Sign out</button></form>
<script type="module" src="/live.js"></script>`);
