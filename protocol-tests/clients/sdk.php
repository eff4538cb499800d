<?php
// Sends what pusher-php-server 7.2 sends, as PHP itself encodes it: JSON with \/ and \uXXXX, arrays of parameters as
// info[0]=…&info[1]=… with encoded brackets. The package itself comes through Composer only.

declare(strict_types=1);

require_once __DIR__ . '/pusher-request.php';

/** $pusher->get() and $pusher->post(), with anything but 200 as an error. */
function call_method(object $command, array $app, string $base): array
{
    [$path, $argument] = $command->args;
    [$status, $answer] = $command->method === 'post'
        ? send_request($base, $app, 'POST', $path, [], json_encode($argument, JSON_THROW_ON_ERROR))
        : send_request($base, $app, 'GET', $path, (array) $argument, null);

    return $status === 200 ? ['ok' => json_decode($answer)] : ['error' => $answer, 'status' => $status];
}

/** A request of the given form, with its status. The option `path` stands before the address and is not signed. */
function send_form(object $command, array $app, string $base): array
{
    $body = $command->body ?? null;
    if (isset($body->data) && ! is_string($body->data)) {
        $body->data = json_encode($body->data, JSON_THROW_ON_ERROR);
    }
    [$status, $answer] = send_request(
        $base . ($command->path ?? ''),
        $app,
        $command->method,
        $command->resource,
        (array) ($command->params ?? []),
        $body === null ? null : json_encode($body, JSON_THROW_ON_ERROR),
    );

    return ['ok' => ['status' => $status, 'body' => json_decode($answer)]];
}

while (($line = fgets(STDIN)) !== false) {
    $command = json_decode($line, false, 512, JSON_THROW_ON_ERROR);
    $send = $command->do === 'call' ? 'call_method' : 'send_form';
    $report = $send($command, (array) $command->app, "http://127.0.0.1:$command->port");
    echo json_encode(['id' => $command->id] + $report, JSON_THROW_ON_ERROR), "\n";
}
