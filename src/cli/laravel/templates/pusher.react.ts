import { configureEcho } from '@laravel/echo-react';

configureEcho({
    broadcaster: 'pusher',
    forceTLS: (import.meta.env.VITE_PUSHER_SCHEME ?? 'https') === 'https',
});
