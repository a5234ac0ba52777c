<?php

// Publish to Orgcast from PHP 8.1 or newer, without packages: copy this file.

declare(strict_types=1);

/**
 * A call that was refused or failed. $reason is one of the codes of docs/protocol.md, "unreachable" if no answer came,
 * or "bad_answer" if the answer is not Orgcast's. $status is the HTTP status, 0 without an answer.
 */
final class OrgcastException extends RuntimeException
{
    public function __construct(string $call, public readonly int $status, public readonly string $reason)
    {
        parent::__construct("orgcast $call: $reason (status $status)");
    }
}

final class Orgcast
{
    /** How often record and revoke are tried. Repeating them does no harm. */
    private const ATTEMPTS = 3;
    private const ID = '/\A[A-Za-z0-9_-]{1,64}\z/';

    /** $url is the gateway's private listener, $key its --publish-key, $timeout the seconds that each attempt waits for the gateway. */
    public function __construct(private readonly string $url, private readonly string $key, private readonly float $timeout = 5.0)
    {
        if ($key === '' || strpbrk($key, "\r\n") !== false) {
            throw new InvalidArgumentException('orgcast: invalid key');
        }
    }

    /**
     * Sends an event to the members of a group who are connected now. It is tried once.
     *
     * @return array{nodes: int}
     */
    public function publish(string $organization, string $group, array|object $event): array
    {
        $result = $this->post('publish', ['organization_id' => $organization, 'group' => $group, 'event' => $event], 1);
        return ['nodes' => $result->nodes];
    }

    /**
     * The same, and keeps the event in the group's history. "repeated" says that the idempotency key has been used before
     * and nothing was published.
     *
     * @return array{id: string, nodes: int, repeated: bool}
     */
    public function record(string $organization, string $group, array|object $event, ?string $idempotencyKey = null): array
    {
        $result = $this->post('publish', [
            'organization_id' => $organization, 'group' => $group, 'event' => $event,
            'record' => true, 'idempotency_key' => $idempotencyKey ?? bin2hex(random_bytes(16)),
        ], self::ATTEMPTS);
        return ['id' => $result->id, 'nodes' => $result->nodes ?? 0, 'repeated' => $result->repeated ?? false];
    }

    /** Ends the right to be connected: ['type' => 'user.disabled', 'user_id' => 'ada']. Returns "revoked" or "announced". */
    public function revoke(array|object $message): string
    {
        return $this->post('revoke', $message, self::ATTEMPTS)->status;
    }

    /** The name of a user's own group. */
    public static function userGroup(string $user): string
    {
        if ($user === '') {
            throw new InvalidArgumentException('orgcast: the user id is empty');
        }
        if (preg_match(self::ID, $user)) {
            return "user.$user";
        }
        return 'user..' . rtrim(strtr(base64_encode(hash('sha256', $user, true)), '+/', '-_'), '=');
    }

    /** The token with which a page may subscribe to a group until $expires, in Unix seconds. $key is --signing-key. */
    public static function signGroup(string $key, string $organization, string $group, int $expires): string
    {
        if (strlen($key) < 32) {
            throw new InvalidArgumentException('orgcast: the signing key must have at least 32 bytes');
        }
        if (!preg_match(self::ID, $organization)) {
            throw new InvalidArgumentException('orgcast: invalid organization');
        }
        if (!preg_match('/\A[A-Za-z0-9_.-]{1,100}\z/', $group)) {
            throw new InvalidArgumentException('orgcast: invalid group');
        }
        if ($expires < 1 || $expires >= 100_000_000_000) {
            throw new InvalidArgumentException('orgcast: expires must be Unix seconds');
        }
        return $expires . '.' . hash_hmac('sha256', "orgcast.v1.group\n$organization\n$group\n$expires", $key);
    }

    private function post(string $call, array|object $body, int $attempts): object
    {
        $text = json_encode($body, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION);
        for ($attempt = 1; ; $attempt++) {
            try {
                return $this->try($call, $text);
            } catch (OrgcastException $e) {
                if ($attempt >= $attempts || ($e->status > 0 && $e->status < 500)) {
                    throw $e;
                }
                usleep((int) (100_000 * 2 ** $attempt * (0.5 + mt_rand() / mt_getrandmax())));
            }
        }
    }

    private function try(string $call, string $body): object
    {
        $context = stream_context_create(['http' => [
            'method' => 'POST',
            'header' => ["Authorization: Bearer $this->key", 'Content-Type: application/json'],
            'content' => $body,
            'timeout' => $this->timeout,
            'follow_location' => 0,
            'ignore_errors' => true, // the body of an error says why
        ]]);
        // Without an answer PHP warns, and the warning of a timeout does not make it an error.
        set_error_handler(static fn (): bool => true);
        try {
            $stream = fopen(rtrim($this->url, '/') . "/v1/$call", 'rb', false, $context);
            $text = $stream ? stream_get_contents($stream) : false;
            $meta = $stream ? stream_get_meta_data($stream) : [];
        } finally {
            restore_error_handler();
        }
        if (!preg_match('#\AHTTP/\S+ (\d{3})#', $meta['wrapper_data'][0] ?? '', $line) || $text === false || $meta['timed_out']) {
            throw new OrgcastException($call, 0, 'unreachable');
        }
        $answer = json_decode($text);
        $result = $answer->results[0] ?? $answer;
        if ($line[1] === '200' && in_array($result->status ?? null, ['published', 'revoked', 'announced'], true)) {
            return $result;
        }
        $reason = $result->code ?? null;
        throw new OrgcastException($call, (int) $line[1], is_string($reason) ? $reason : 'bad_answer');
    }
}
