<?php
// A request as pusher-php-server 7.2 sends it: the signature over the parameters as they are, the query
// encoded by RFC 3986.

declare(strict_types=1);

/**
 * @param array{id: string, key: string, secret: string} $app
 * @param array<string, mixed> $params
 */
function signed_query(array $app, string $method, string $path, array $params): string
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

/**
 * @param array{id: string, key: string, secret: string} $app
 * @param array<string, mixed> $params
 * @return array{int, string} status and body
 */
function send_request(string $base, array $app, string $method, string $path, array $params, ?string $body): array
{
    $path = "/apps/{$app['id']}$path";
    if ($body !== null) {
        $params['body_md5'] = md5($body);
    }
    $query = signed_query($app, $method, $path, $params);
    $options = [
        'method' => $method,
        'header' => "Content-Type: application/json\r\nX-Pusher-Library: pusher-http-php 7.2.6\r\nConnection: close",
        'content' => $body ?? '',
        'ignore_errors' => true,
        'protocol_version' => 1.1,
    ];
    $answer = file_get_contents("$base$path?$query", false, stream_context_create(['http' => $options]));
    if ($answer === false) {
        throw new RuntimeException("$base does not answer");
    }

    return [(int) explode(' ', $http_response_header[0])[1], $answer];
}
