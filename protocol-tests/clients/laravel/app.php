<?php
// A Laravel 8 application, from Debian's packages, in the folder that the first argument names, which holds `.env`,
// `config/broadcasting.php`, `routes/channels.php` and `app/Events/OrderShipped.php`. It obeys commands and reports
// as lines.mjs describes.

declare(strict_types=1);

use App\Events\OrderShipped;
use Illuminate\Auth\GenericUser;
use Illuminate\Broadcasting\BroadcastServiceProvider;
use Illuminate\Bus\BusServiceProvider;
use Illuminate\Config\Repository;
use Illuminate\Filesystem\FilesystemServiceProvider;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Bootstrap\LoadEnvironmentVariables;
use Illuminate\Http\Request;
use Illuminate\Queue\QueueServiceProvider;
use Illuminate\Support\Facades\Broadcast;
use Illuminate\Support\Facades\Facade;
use Symfony\Component\HttpKernel\Exception\HttpException;

// Laravel 8 is older than PHP 8.2 and uses what that deprecates.
error_reporting(E_ALL & ~E_DEPRECATED);
require_once 'Illuminate/autoload.php';
require_once __DIR__ . '/Pusher.php';
require_once "$argv[1]/app/Events/OrderShipped.php";

$app = new Application($argv[1]);
(new LoadEnvironmentVariables())->bootstrap($app);
$app->instance('config', new Repository([
    'broadcasting' => require "$argv[1]/config/broadcasting.php",
    'queue' => ['default' => 'sync', 'connections' => ['sync' => ['driver' => 'sync']]],
]));
Facade::setFacadeApplication($app);
$providers = [
    FilesystemServiceProvider::class,
    BusServiceProvider::class,
    QueueServiceProvider::class,
    BroadcastServiceProvider::class,
];
array_walk($providers, fn (string $provider) => $app->register($provider));
Broadcast::routes(['middleware' => []]);
require "$argv[1]/routes/channels.php";

function broadcastOrder(array $command): array
{
    $event = new OrderShipped($command['order']);
    $event->socket = $command['socket'] ?? null;
    event($event);

    return [];
}

/** What a page gets that posts to /broadcasting/auth. */
function authorize(Application $app, array $command): array
{
    $request = Request::create('/broadcasting/auth', 'POST', $command['form']);
    $user = isset($command['user']) ? new GenericUser($command['user']) : null;
    $request->setUserResolver(fn () => $user);
    $app->instance('request', $request);
    try {
        $answer = $app['router']->dispatch($request);

        return ['status' => $answer->getStatusCode(), 'body' => json_decode($answer->getContent(), true)];
    } catch (HttpException $refusal) {
        return ['status' => $refusal->getStatusCode(), 'body' => null];
    }
}

while (($line = fgets(STDIN)) !== false) {
    $command = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    try {
        $answer = match ($command['do']) {
            'environment' => array_map('env', array_combine($command['names'], $command['names'])),
            'broadcast' => broadcastOrder($command),
            'authorize' => authorize($app, $command),
        };
        $report = ['id' => $command['id'], 'ok' => (object) $answer];
    } catch (Throwable $error) {
        $report = ['id' => $command['id'], 'error' => $error::class . ': ' . $error->getMessage() . ' ' . $error->getFile() . ':' . $error->getLine()];
    }
    echo json_encode($report, JSON_THROW_ON_ERROR), "\n";
}
