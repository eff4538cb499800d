<?php
// An event and a message: `php examples/backend/send.php "Hello"`.
//
// Laravel has the SDK already, and with it this is
//
//     $pusher = Broadcast::driver()->getPusher();   // or new Pusher\Pusher($key, $secret, $id, ['host' => …])
//     $pusher->trigger('user.2', 'App\Events\Greeting', ['text' => $text]);
//     $answer = $pusher->post('/messaging/messages', json_encode(['user_id' => 1, 'to' => …, 'text' => $text]));
//
// Below is the same without any package: what $pusher->post() does.

declare(strict_types=1);

/** @param array<string, mixed> $body */
function post(string $path, array $body): object
{
    $json = json_encode($body, JSON_THROW_ON_ERROR);
    $path = '/apps/' . getenv('PUSHER_APP_ID') . $path;
    // In the order of their names.
    $query = http_build_query([
        'auth_key' => getenv('PUSHER_APP_KEY'),
        'auth_timestamp' => time(),
        'auth_version' => '1.0',
        'body_md5' => md5($json),
    ]);
    $signature = hash_hmac('sha256', "POST\n$path\n$query", getenv('PUSHER_APP_SECRET'));
    $url = getenv('PUSHER_SCHEME') . '://' . getenv('PUSHER_HOST') . ':' . getenv('PUSHER_PORT')
        . "$path?$query&auth_signature=$signature";
    $answer = file_get_contents($url, false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => "Content-Type: application/json\r\nConnection: close",
        'content' => $json,
        'ignore_errors' => true,
    ]]));
    if (! str_contains($http_response_header[0] ?? '', ' 200')) {
        fwrite(STDERR, "$answer\n");
        exit(1);
    }

    return json_decode($answer, false, 512, JSON_THROW_ON_ERROR);
}

$text = $argv[1] ?? 'Hello';

// An event: `data` is JSON in a string.
post('/events', ['name' => 'App\Events\Greeting', 'channel' => 'user.2', 'data' => json_encode(['text' => $text])]);

// Who has which number; once is enough.
post('/messaging/phone_numbers', ['phone_numbers' => [
    ['number' => '+13125550100', 'user_id' => 1],
    ['number' => '+13125550101', 'user_id' => 2],
]]);
$answer = post('/messaging/messages', ['user_id' => 1, 'to' => '(312) 555-0101', 'text' => $text]);
echo $answer->message->status, "\n";
