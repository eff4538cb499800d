/** What the backend has put into the page. */
const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

export const userId = meta('user-id');
export const userName = meta('user-name');
/** `{key, host, port, scheme, channels}`; in a Laravel application these come from `import.meta.env.VITE_PUSHER_…`. */
export const broadcasting = JSON.parse(meta('broadcasting'));
