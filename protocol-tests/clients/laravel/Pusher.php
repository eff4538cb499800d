<?php
// The part of pusher-php-server 7.2 that Laravel 8 calls, for the package comes through Composer only:
// the same options, requests and signatures.

declare(strict_types=1);

namespace Pusher;

require_once __DIR__ . '/../pusher-request.php';

class ApiErrorException extends \Exception
{
}

class Pusher
{
    private string $base;

    /** @param array<string, mixed> $options */
    public function __construct(
        private string $key,
        private string $secret,
        private string $appId,
        array $options = [],
    ) {
        // TLS and its port are the default only where neither scheme nor port is given.
        $isTls = ($options['useTLS'] ?? true) === true && ! isset($options['scheme']) && ! isset($options['port']);
        $scheme = $options['scheme'] ?? ($isTls ? 'https' : 'http');
        $host = $options['host'] ?? 'api-' . ($options['cluster'] ?? 'mt1') . '.pusher.com';
        $port = $options['port'] ?? ($isTls ? 443 : 80);
        $this->base = "$scheme://$host:$port" . ($options['path'] ?? '');
    }

    /**
     * @param list<string> $channels
     * @param array<string, mixed> $params
     */
    public function trigger(array $channels, string $event, mixed $data, array $params = []): object
    {
        $body = ['name' => $event, 'data' => json_encode($data, JSON_THROW_ON_ERROR)] + $params;
        $body += count($channels) === 1 ? ['channel' => $channels[0]] : ['channels' => $channels];

        return $this->post('/events', json_encode($body, JSON_THROW_ON_ERROR));
    }

    public function post(string $path, string $body): object
    {
        return $this->send('POST', $path, [], $body);
    }

    /** @param array<string, mixed> $params */
    public function get(string $path, array $params = []): object
    {
        return $this->send('GET', $path, $params, null);
    }

    public function socket_auth(string $channel, string $socketId, ?string $data = null): string
    {
        $text = "$socketId:$channel" . ($data === null ? '' : ":$data");
        $answer = ['auth' => $this->key . ':' . hash_hmac('sha256', $text, $this->secret)];

        return json_encode($answer + ($data === null ? [] : ['channel_data' => $data]), JSON_THROW_ON_ERROR);
    }

    public function presence_auth(string $channel, string $socketId, string $userId, mixed $info = null): string
    {
        $member = ['user_id' => $userId] + ($info ? ['user_info' => $info] : []);

        return $this->socket_auth($channel, $socketId, json_encode($member, JSON_THROW_ON_ERROR));
    }

    /** @param array<string, mixed> $params */
    private function send(string $method, string $path, array $params, ?string $body): object
    {
        $app = ['id' => $this->appId, 'key' => $this->key, 'secret' => $this->secret];
        [$status, $answer] = \send_request($this->base, $app, $method, $path, $params, $body);
        if ($status !== 200) {
            throw new ApiErrorException($answer, $status);
        }

        return json_decode($answer, false, 512, JSON_THROW_ON_ERROR);
    }
}
