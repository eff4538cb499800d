/** Makes a new message known: to the ear, to who looks elsewhere, and in the title. */
import { ref } from 'vue';

/** What a screen reader says next. */
export const announcement = ref('');
/** Whether somebody looks at the page. */
export const isVisible = ref(document.visibilityState === 'visible');
/** `default` until the user was asked, then `granted` or `denied`. */
export const permission = ref(globalThis.Notification?.permission ?? 'denied');

document.addEventListener('visibilitychange', () => {
  isVisible.value = document.visibilityState === 'visible';
});

export function announce(text) {
  announcement.value = text;
}

export async function askPermission() {
  permission.value = await Notification.requestPermission();
}

/** A notification of the system, if the page is hidden and the user allowed it. */
export function notify({ title, body, tag, open }) {
  if (document.visibilityState === 'visible' || permission.value !== 'granted') return;
  let notification;
  try {
    notification = new Notification(title, { body, tag, icon: '/icon.svg' });
  } catch {
    // Android has them from service workers only.
    return;
  }
  notification.onclick = () => {
    window.focus();
    open();
    notification.close();
  };
}
