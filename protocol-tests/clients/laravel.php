<?php
// The Laravel code of a README, run without Laravel: its `<?php` blocks are loaded as they are, and the few parts of the framework
// that they call are stood in for. The SDK stands in for pusher-php-server 7.2, which comes through Composer only, with what it
// throws when the server is away (seen with the package itself, Guzzle 7.4 and Laravel 8): `post()` an ApiErrorException with code 0,
// `get()` Guzzle's ConnectException, and in both texts the signed URL.

namespace GuzzleHttp\Exception {
    interface GuzzleException extends \Throwable
    {
    }

    class ConnectException extends \RuntimeException implements GuzzleException
    {
    }
}

namespace Pusher {
    class PusherException extends \Exception
    {
    }

    class ApiErrorException extends PusherException
    {
    }

    final class Pusher
    {
        public function __construct(private array $app, private int $port)
        {
        }

        public function get(string $path, array $params = [], bool $associative = false): mixed
        {
            [$status, $body] = $this->exchange('GET', $path, $params, null);

            return $this->decoded($status, $body, $associative);
        }

        public function post(string $path, string $body): mixed
        {
            try {
                [$status, $answer] = $this->exchange('POST', $path, ['body_md5' => md5($body)], $body);
            } catch (\GuzzleHttp\Exception\ConnectException $error) {
                throw new ApiErrorException($error->getMessage());
            }

            return $this->decoded($status, $answer, false);
        }

        private function decoded(int $status, string $body, bool $associative): mixed
        {
            if ($status !== 200) {
                throw new ApiErrorException($body, $status);
            }

            return json_decode($body, $associative, 512, JSON_THROW_ON_ERROR);
        }

        private function exchange(string $method, string $path, array $params, ?string $body): array
        {
            $path = "/apps/{$this->app['id']}$path";
            $params += ['auth_key' => $this->app['key'], 'auth_timestamp' => time(), 'auth_version' => '1.0'];
            ksort($params);
            $signed = implode('&', array_map(fn ($name) => "$name=$params[$name]", array_keys($params)));
            $params['auth_signature'] = hash_hmac('sha256', "$method\n$path\n$signed", $this->app['secret']);
            $url = "http://127.0.0.1:{$this->port}$path?".http_build_query($params, '', '&', PHP_QUERY_RFC3986);
            $http = ['method' => $method, 'header' => "Content-Type: application/json\r\nConnection: close", 'content' => $body ?? '', 'ignore_errors' => true];
            $stream = @fopen($url, 'r', false, stream_context_create(['http' => $http]));
            if ($stream === false) {
                throw new \GuzzleHttp\Exception\ConnectException("cURL error 7: Failed to connect to 127.0.0.1 for $url");
            }
            $status = (int) explode(' ', stream_get_meta_data($stream)['wrapper_data'][0])[1];

            return [$status, (string) stream_get_contents($stream)];
        }
    }
}

namespace Illuminate\Http {
    final class Request
    {
        public function __construct(private array $fields)
        {
        }

        public function only(string ...$names): array
        {
            return array_intersect_key($this->fields, array_flip($names));
        }

        public function input(string $name): mixed
        {
            return $this->fields[$name] ?? null;
        }
    }

    final class JsonResponse
    {
        public function __construct(public mixed $data, private int $status)
        {
        }

        public function getStatusCode(): int
        {
            return $this->status;
        }
    }
}

namespace Illuminate\Http\Exceptions {
    final class HttpResponseException extends \RuntimeException
    {
        public function __construct(private \Illuminate\Http\JsonResponse $response)
        {
            parent::__construct();
        }

        public function getResponse(): \Illuminate\Http\JsonResponse
        {
            return $this->response;
        }
    }
}

namespace Illuminate\Support\Facades {
    final class Log
    {
        public static array $lines = [];

        public static function error(string $line): void
        {
            self::$lines[] = $line;
        }
    }

    final class Broadcast
    {
        public static \Pusher\Pusher $pusher;
        public static array $channels = [];

        public static function driver(): self
        {
            return new self();
        }

        public function getPusher(): \Pusher\Pusher
        {
            return self::$pusher;
        }

        public static function channel(string $name, callable $rule): void
        {
            self::$channels[$name] = $rule;
        }
    }
}

namespace App\Http\Controllers {
    class Controller
    {
    }
}

namespace {
    use App\Http\Controllers\MessengerController;
    use Illuminate\Http\Exceptions\HttpResponseException;
    use Illuminate\Http\JsonResponse;
    use Illuminate\Http\Request;
    use Illuminate\Support\Facades\Broadcast;
    use Illuminate\Support\Facades\Log;

    function auth(): object
    {
        return new class () {
            public function id(): int
            {
                return 1;
            }
        };
    }

    function response(): object
    {
        return new class () {
            public function json(mixed $data, int $status = 200): JsonResponse
            {
                return new JsonResponse($data, $status);
            }
        };
    }

    $page = file_get_contents($argv[1]);
    preg_match_all('/^```php\n(.*?)^```/ms', $page, $blocks);
    foreach ($blocks[1] as $block) {
        // Routes are Laravel's own matter; the rules of channels are run.
        if (! str_contains($block, 'Route::middleware')) {
            eval(preg_replace('/^<\?php\n/', '', $block));
        }
    }

    while (($line = fgets(STDIN)) !== false) {
        $command = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
        ['app' => $app, 'port' => $port, 'method' => $method, 'args' => $args] = $command;
        Broadcast::$pusher = new \Pusher\Pusher($app, $port);
        Log::$lines = [];
        try {
            $answer = $method === 'channel'
                ? new JsonResponse((Broadcast::$channels[$args[0]])((object) ['id' => 1], $args[1]), 200)
                : (new MessengerController())->$method(...array_map(fn ($arg) => is_array($arg) ? new Request($arg) : $arg, $args));
        } catch (HttpResponseException $ended) {
            $answer = $ended->getResponse();
        }
        $report = ['id' => $command['id'], 'ok' => ['status' => $answer->getStatusCode(), 'data' => $answer->data, 'log' => Log::$lines]];
        echo json_encode($report, JSON_THROW_ON_ERROR), "\n";
    }
}
