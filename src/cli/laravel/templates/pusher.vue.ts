import { configureEcho } from '@laravel/echo-vue';

configureEcho({
    broadcaster: 'pusher',
    forceTLS: (import.meta.env.VITE_PUSHER_SCHEME ?? 'https') === 'https',
});
