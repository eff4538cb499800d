composer require pusher/pusher-php-server
php artisan install:broadcasting --without-reverb --without-node
npm i laravel-echo pusher-js
