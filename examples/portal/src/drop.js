/** Files that are dragged over something and dropped there. */
import { ref } from 'vue';

// Beside it the browser would open the file in place of the page, and what was written would be lost.
for (const type of ['dragover', 'drop']) window.addEventListener(type, (event) => event.preventDefault());

/** Listeners for `v-on`, and whether files are over it now. */
export function useDrop(take) {
  const isOver = ref(false);
  // Each element inside is entered and left by itself.
  let depth = 0;
  const hasFiles = (event) => event.dataTransfer.types.includes('Files');
  const end = () => {
    depth = 0;
    isOver.value = false;
  };
  const dropping = {
    dragenter(event) {
      if (!hasFiles(event)) return;
      depth += 1;
      isOver.value = true;
    },
    dragleave(event) {
      if (hasFiles(event) && (depth -= 1) <= 0) end();
    },
    drop(event) {
      if (!hasFiles(event)) return;
      end();
      take([...event.dataTransfer.files]);
    },
  };
  return { isOver, dropping };
}
