composer require pusher/pusher-php-server
npm i laravel-echo pusher-js
