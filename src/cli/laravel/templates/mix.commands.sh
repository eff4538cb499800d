composer require pusher/pusher-php-server:^7.2
npm i laravel-echo@1 pusher-js@8
