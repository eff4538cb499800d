<?php
// An event and a message: `php examples/backend/send.php "Hello"`.
//
// Laravel has the SDK already, and with it this is
//
//     $pusher = Broadcast::driver()->getPusher();   // or new Pusher\Pusher($key, $secret, $id, ['host' => …])
//     $pusher->trigger('user.2', 'App\Events\Greeting', ['text' => $text]);
//     $answer = $pusher->post('/messaging/messages', json_encode(['user_id' => 1, 'to' => …, 'text' => $text]));
//
// Below is the same without any package, as $pusher->post() does it.

declare(strict_types=1);

/** @return never */
function fail(string $reason)
{
    fwrite(STDERR, "$reason\n");
    exit(1);
}

/** A variable of the block PUSHER_… that the server printed. */
function setting(string $name): string
{
    $advice = 'Save the block that begins with BROADCAST_CONNECTION=pusher as .env and load it: set -a; . ./.env; set +a';

    return getenv($name) ?: fail("$name is not set. $advice");
}

/** @param array<string, mixed> $body */
function post(string $path, array $body): object
{
    $json = json_encode($body, JSON_THROW_ON_ERROR);
    $path = '/apps/' . setting('PUSHER_APP_ID') . $path;
    // In the order of their names.
    $query = http_build_query([
        'auth_key' => setting('PUSHER_APP_KEY'),
        'auth_timestamp' => time(),
        'auth_version' => '1.0',
        'body_md5' => md5($json),
    ]);
    $signature = hash_hmac('sha256', "POST\n$path\n$query", setting('PUSHER_APP_SECRET'));
    $server = setting('PUSHER_SCHEME') . '://' . setting('PUSHER_HOST') . ':' . setting('PUSHER_PORT');
    // PHP's own warning would hold the signed URL.
    $stream = @fopen("$server$path?$query&auth_signature=$signature", 'r', false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => "Content-Type: application/json\r\nConnection: close",
        'content' => $json,
        'ignore_errors' => true,
    ]]));
    if ($stream === false) {
        fail("No server answers at $server. Is it running?");
    }
    $answer = (string) stream_get_contents($stream);
    if (! str_contains(stream_get_meta_data($stream)['wrapper_data'][0], ' 200')) {
        fail($answer);
    }

    return json_decode($answer, false, 512, JSON_THROW_ON_ERROR);
}

$text = $argv[1] ?? 'Hello';

// An event: `data` is JSON in a string.
post('/events', ['name' => 'App\Events\Greeting', 'channel' => 'user.2', 'data' => json_encode(['text' => $text])]);

// The owners of the numbers; once is enough.
post('/messaging/phone_numbers', ['phone_numbers' => [
    ['number' => '+13125550100', 'user_id' => 1],
    ['number' => '+13125550101', 'user_id' => 2],
]]);
$answer = post('/messaging/messages', ['user_id' => 1, 'to' => '(312) 555-0101', 'text' => $text]);
echo $answer->message->status, "\n";
