'options' => [
    'cluster' => env('PUSHER_APP_CLUSTER', 'mt1'),
    'host' => env('PUSHER_HOST', '127.0.0.1'),
    'port' => env('PUSHER_PORT', 6001),
    'scheme' => env('PUSHER_SCHEME', 'http'),
    'useTLS' => env('PUSHER_SCHEME', 'http') === 'https',
],
