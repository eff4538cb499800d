<?php
// Sends what pusher-php-server 7.2 sends for $pusher->get() and $pusher->post(): the signature over the
// parameters as they are, the query encoded by RFC 3986, and anything but 200 an exception. The package
// itself comes through Composer only.

declare(strict_types=1);

final class ApiError extends Exception
{
}

/** @param array<string, mixed> $params */
function signed(array $app, string $method, string $path, array $params): string
{
    $params = array_merge(
        ['auth_key' => $app['key'], 'auth_timestamp' => time(), 'auth_version' => '1.0'],
        $params,
    );
    ksort($params);
    $joined = [];
    foreach ($params as $key => $value) {
        $joined[] = $key . '=' . (is_array($value) ? implode(',', $value) : $value);
    }
    $text = "$method\n$path\n" . implode('&', $joined);
    $params['auth_signature'] = hash_hmac('sha256', $text, $app['secret']);

    return http_build_query($params, '', '&', PHP_QUERY_RFC3986);
}

/** @param array<string, mixed> $params */
function send(array $app, int $port, string $method, string $path, array $params, ?string $body): object
{
    $path = "/apps/{$app['id']}$path";
    if ($body !== null) {
        $params['body_md5'] = md5($body);
    }
    $query = signed($app, $method, $path, $params);
    $options = [
        'method' => $method,
        'header' => "Content-Type: application/json\r\nX-Pusher-Library: pusher-http-php 7.2.6\r\nConnection: close",
        'content' => $body ?? '',
        'ignore_errors' => true,
        'protocol_version' => 1.1,
    ];
    $answer = file_get_contents("http://127.0.0.1:$port$path?$query", false, stream_context_create(['http' => $options]));
    $status = (int) explode(' ', $http_response_header[0])[1];
    if ($status !== 200) {
        throw new ApiError((string) $answer, $status);
    }

    return json_decode((string) $answer, false, 512, JSON_THROW_ON_ERROR);
}

while (($line = fgets(STDIN)) !== false) {
    $command = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    ['app' => $app, 'port' => $port, 'method' => $method, 'args' => $args] = $command;
    try {
        $answer = $method === 'post'
            ? send($app, $port, 'POST', $args[0], [], json_encode($args[1], JSON_THROW_ON_ERROR))
            : send($app, $port, 'GET', $args[0], $args[1], null);
        $report = ['id' => $command['id'], 'ok' => $answer];
    } catch (ApiError $error) {
        $report = ['id' => $command['id'], 'error' => $error->getMessage(), 'status' => $error->getCode()];
    }
    echo json_encode($report, JSON_THROW_ON_ERROR), "\n";
}
