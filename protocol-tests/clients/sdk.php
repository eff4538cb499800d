<?php
// Sends what pusher-php-server 7.2 sends, as PHP itself encodes it: JSON with \/ and \uXXXX, lists of parameters as
// info[0]=… with encoded brackets, the `path` option in front of the address and not in the signature, and anything but
// 200 an exception. The package itself comes through Composer only.

declare(strict_types=1);

require_once __DIR__ . '/pusher-request.php';

final class ApiError extends Exception
{
}

/** @param array<string, mixed> $params */
function send(array $app, int $port, string $method, string $path, array $params, ?string $body, string $prefix = ''): object
{
    [$status, $answer] = send_request("http://127.0.0.1:$port$prefix", $app, $method, $path, $params, $body);
    if ($status !== 200) {
        throw new ApiError($answer, $status);
    }

    return json_decode($answer, false, 512, JSON_THROW_ON_ERROR);
}

/** @param array<string, mixed> $params */
function event(array $channels, string $name, mixed $data, array $params, ?string $info = null): array
{
    $event = ['name' => $name, 'data' => json_encode($data, JSON_THROW_ON_ERROR)];
    $event += count($channels) === 1 ? ['channel' => $channels[0]] : ['channels' => $channels];
    if ($info !== null) {
        $event['info'] = $info;
    }

    return array_merge($event, $params);
}

/** @param array<string, mixed> $params */
function triggered(array $app, int $port, array $channels, string $name, mixed $data, array $params = []): object
{
    $body = json_encode(event($channels, $name, $data, $params), JSON_THROW_ON_ERROR);
    $answer = send($app, $port, 'POST', '/events', [], $body);
    if (property_exists($answer, 'channels') && is_object($answer->channels)) {
        $answer->channels = get_object_vars($answer->channels);
    }

    return $answer;
}

/** @param list<array<string, mixed>> $events */
function batch(array $events): string
{
    $batch = array_map(fn (array $event): array => event(
        [$event['channel']],
        $event['name'],
        $event['data'],
        array_intersect_key($event, ['socket_id' => true]),
        $event['info'] ?? null,
    ), $events);

    return json_encode(['batch' => $batch], JSON_THROW_ON_ERROR);
}

/** A TypeError, unless `channels` is an object. */
function listed(object $answer): object
{
    $answer->channels = get_object_vars($answer->channels);

    return $answer;
}

/** A request as it is described, for tests of what no method of the package sends alone. */
function described(array $app, object $request): array
{
    $params = json_decode(json_encode($request->params ?? [], JSON_THROW_ON_ERROR), true);
    $body = $request->body ?? null;
    if (isset($body->data) && ! is_string($body->data)) {
        $body->data = json_encode($body->data, JSON_THROW_ON_ERROR);
    }
    $body = $body === null ? null : json_encode($body, JSON_THROW_ON_ERROR);
    $prefix = $request->path ?? '';
    try {
        $answer = send($app, $request->port, $request->method, $request->resource, $params, $body, $prefix);

        return ['status' => 200, 'body' => $answer];
    } catch (ApiError $error) {
        return ['status' => $error->getCode(), 'body' => json_decode($error->getMessage())];
    }
}

while (($line = fgets(STDIN)) !== false) {
    $command = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    if ($command['do'] === 'send') {
        $answer = described($command['app'], json_decode($line));
        echo json_encode(['id' => $command['id'], 'ok' => $answer], JSON_THROW_ON_ERROR), "\n";
        continue;
    }
    ['app' => $app, 'port' => $port, 'method' => $method, 'args' => $args] = $command;
    try {
        $answer = match ($method) {
            'post' => send($app, $port, 'POST', $args[0], [], json_encode($args[1], JSON_THROW_ON_ERROR)),
            'get' => send($app, $port, 'GET', $args[0], $args[1], null),
            'trigger' => triggered($app, $port, ...$args),
            'triggerBatch' => send($app, $port, 'POST', '/batch_events', [], batch($args[0])),
            'getChannels' => listed(send($app, $port, 'GET', '/channels', $args[0] ?? [], null)),
            'terminateUserConnections' => send($app, $port, 'POST', "/users/$args[0]/terminate_connections", [], '{}'),
        };
        $report = ['id' => $command['id'], 'ok' => $answer];
    } catch (ApiError $error) {
        $report = ['id' => $command['id'], 'error' => $error->getMessage(), 'status' => $error->getCode()];
    }
    echo json_encode($report, JSON_THROW_ON_ERROR), "\n";
}
