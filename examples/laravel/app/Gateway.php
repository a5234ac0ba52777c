<?php

namespace App;

use Illuminate\Support\Facades\Log;
use Orgcast;
use OrgcastException;

/** The private listener of the gateway. */
class Gateway
{
    /** The name of a session for the gateway. It does not open the session. */
    public static function sessionName(string $id): string
    {
        return hash('sha256', "orgcast:$id");
    }

    public static function publish(string $organization, array $event): void
    {
        self::client()->publish($organization, 'all', $event);
    }

    /** Closes sockets at once. If the gateway cannot be reached, its next question finds out: the user must not fail for it. */
    public static function announce(array $message): void
    {
        try {
            self::client()->revoke($message);
        } catch (OrgcastException $e) {
            Log::error('announce: '.$e->getMessage());
        }
    }

    private static function client(): Orgcast
    {
        return new Orgcast(config('notes.gateway'), config('notes.publish_key'), timeout: 10.0);
    }
}
