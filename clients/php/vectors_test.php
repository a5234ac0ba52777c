<?php

// Makes the calls of ../vectors.json. clients_test.go starts it, with a gateway behind $ORGCAST_TEST_FRONT.

declare(strict_types=1);

require __DIR__ . '/Orgcast.php';

$vectors = json_decode(file_get_contents(__DIR__ . '/../vectors.json'), flags: JSON_THROW_ON_ERROR);
$failures = 0;

function expect(mixed $want, mixed $got, string $about): void
{
    global $failures;
    if ($want !== $got) {
        $failures++;
        echo "$about:\n  got ", var_export($got, true), "\n  want ", var_export($want, true), "\n";
    }
}

/** Returns what a call returned, or the exception that it threw. */
function outcome(callable $call): mixed
{
    try {
        return $call();
    } catch (OrgcastException | InvalidArgumentException $e) {
        return $e;
    }
}

foreach ($vectors->user_group as $v) {
    expect($v->group, Orgcast::userGroup($v->user), "userGroup($v->user)");
}
expect(true, outcome(fn () => Orgcast::userGroup('')) instanceof InvalidArgumentException, 'empty user');
foreach ($vectors->sign_group as $v) {
    expect($v->token, Orgcast::signGroup($v->key, $v->organization, $v->group, $v->expires), "signGroup of $v->group");
}
foreach ($vectors->sign_group_refused as $v) {
    $got = outcome(fn () => Orgcast::signGroup($v->key, $v->organization, $v->group, $v->expires));
    expect(true, $got instanceof InvalidArgumentException, 'signGroup of ' . json_encode($v));
}
foreach (['', "key\r\nX-Other: 1"] as $key) {
    expect(true, outcome(fn () => new Orgcast('http://127.0.0.1:1', $key)) instanceof InvalidArgumentException, 'bad key');
}

function make(object $v): mixed
{
    $through = $v->through ?? 'direct';
    $url = $through === 'nowhere' ? 'http://127.0.0.1:1' : getenv('ORGCAST_TEST_FRONT') . "/$through";
    $client = new Orgcast($url, $v->key ?? getenv('ORGCAST_TEST_KEY'), $through === 'silent' ? 0.3 : 60);
    $group = isset($v->user) ? Orgcast::userGroup($v->user) : $v->group ?? '';
    return match ($v->call) {
        'publish' => $client->publish($v->organization, $group, $v->event),
        'record' => $client->record($v->organization, $group, $v->event, $v->idempotency_key ?? null),
        'revoke' => $client->revoke($v->message),
    };
}

$ids = []; // label → organization and position
foreach ($vectors->calls as $v) {
    $about = json_encode($v, JSON_UNESCAPED_UNICODE);
    $got = outcome(fn () => make($v));
    if (isset($v->error)) {
        expect((array) $v->error, $got instanceof OrgcastException ? ['status' => $got->status, 'code' => $got->reason] : $got, $about);
        continue;
    }
    if ($got instanceof Exception) {
        expect($v->want, $got->getMessage(), $about);
        continue;
    }
    $want = is_string($v->want) ? $v->want : (array) $v->want;
    if (isset($want['id'])) {
        $label = $want['id'];
        $place = [$v->organization, $got['id']];
        if (!isset($ids[$label])) {
            expect(false, in_array($place, $ids, true) || !preg_match('/\A\d+-\d+\z/', $got['id']), $about);
            $ids[$label] = $place;
        }
        $want['id'] = $ids[$label][1];
    }
    expect($want, $got, $about);
}

exit($failures > 0 ? 1 : 0);
