<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Notes</title>
<form method="post" action="/sign-in">
  @csrf
  <label>User <input name="user"></label>
  <label>Password <input name="password" type="password"></label>
  <button>Sign in</button>
</form>
</html>
