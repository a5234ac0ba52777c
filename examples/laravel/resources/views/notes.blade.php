<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Notes</title>
<h1>{{ Auth::user()->name }} of <span id="organization">no organization</span></h1>
<p id="status"></p>
<ol id="notes"></ol>
<form method="post" action="/notes">@csrf<input name="text" aria-label="Note"><button>Add</button></form>
<form method="post" action="/switch">
  @csrf
  @foreach (Auth::user()->memberships as $membership)
    <button name="organization" value="{{ $membership->organization }}">{{ $membership->organization }}</button>
  @endforeach
</form>
<form method="post" action="/leave">@csrf<button>Leave the organization</button></form>
<form method="post" action="/sign-out">@csrf<button>Sign out</button></form>
<script type="module" src="/live.js"></script>
</html>
