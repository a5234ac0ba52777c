<?php

use App\Gateway;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Route;

Route::view('/sign-in', 'sign-in')->name('login');

Route::post('/sign-in', function (Request $request) {
    if (! Auth::attempt(['name' => $request->input('user'), 'password' => $request->input('password')])) {
        return response()->view('sign-in', [], 403);
    }
    $request->session()->regenerate(); // a new key: nobody can have planted it
    $request->session()->put('organization', Auth::user()->memberships->first()?->organization);

    return redirect('/');
});

Route::middleware('auth')->group(function () {
    Route::view('/', 'notes');

    Route::post('/notes', function (Request $request) {
        Gateway::publish($request->session()->get('organization'), ['type' => 'note', 'text' => $request->input('text')]);

        return redirect('/');
    });

    Route::post('/switch', function (Request $request) {
        $session = $request->session();
        $organization = (string) $request->input('organization');
        abort_unless(Auth::user()->role($organization), 403);
        $session->put('organization', $organization);
        $session->save(); // first: the page reconnects at once
        Gateway::announce(['type' => 'organization.switched', 'session_id' => Gateway::sessionName($session->getId()), 'organization_id' => $organization]);

        return redirect('/');
    });

    Route::post('/leave', function (Request $request) {
        Auth::user()->memberships()->where('organization', $request->session()->get('organization'))->delete(); // the gateway finds out by itself

        return redirect('/');
    });

    Route::post('/sign-out', function (Request $request) {
        $name = Gateway::sessionName($request->session()->getId());
        Auth::logout();
        $request->session()->invalidate();
        Gateway::announce(['type' => 'session.ended', 'session_id' => $name]);

        return redirect('/sign-in');
    });
});
