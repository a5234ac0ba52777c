<?php

namespace App\Http\Controllers;

use App\Gateway;
use App\Models\User;
use Illuminate\Contracts\Encryption\DecryptException;
use Illuminate\Cookie\CookieValuePrefix;
use Illuminate\Http\Request;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Crypt;
use Illuminate\Support\Facades\Session;

/** Answers the gateway: whose are these session cookies? It only reads. */
class IdentityController
{
    public function __invoke(Request $request)
    {
        abort_unless(hash_equals('Bearer '.config('notes.session_key'), (string) $request->header('Authorization')), 401);
        $cookies = $request->json('cookies');
        abort_unless(is_array($cookies) && count($cookies) <= 256, 400);
        $sessions = array_map(fn ($cookie) => $this->session((string) $cookie), $cookies);
        $key = Auth::guard('web')->getName();
        $users = User::with('memberships')->findMany(array_column($sessions, $key))->keyBy('id');

        return ['identities' => array_map(fn ($session) => $this->identity($session, $users[$session[$key] ?? 0] ?? null), $sessions)];
    }

    /** Returns the session that a cookie opens, without starting it, and its id. */
    private function session(string $cookie): array
    {
        try {
            $value = Crypt::decryptString(rawurldecode($cookie));
        } catch (DecryptException) {
            return [];
        }
        $prefix = CookieValuePrefix::create(config('session.cookie'), Crypt::getKey());
        if (! str_starts_with($value, $prefix)) {
            return []; // of another cookie
        }
        $id = CookieValuePrefix::remove($value);
        $session = @unserialize((string) Session::getHandler()->read($id));

        return is_array($session) ? ['id' => $id] + $session : [];
    }

    private function identity(array $session, ?User $user): array
    {
        $organization = $session['organization'] ?? null;
        $role = $organization === null ? null : $user?->role($organization);

        return match (true) {
            $user === null => ['code' => 'none'],
            $organization === null => ['code' => 'no_organization'],
            $role === null => ['code' => 'forbidden'],
            default => [
                'user_id' => $user->name, 'active_organization_id' => $organization, 'role' => $role,
                'session_id' => Gateway::sessionName($session['id']), 'expires_at' => time() + config('session.lifetime') * 60,
            ],
        };
    }
}
