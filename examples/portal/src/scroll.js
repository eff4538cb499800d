/** Keeps the end of a scrolled thing in sight while it grows, for whoever looks at its end. */
import { onMounted, onUnmounted, ref } from 'vue';

/** So near to the end, in pixels, counts as there. */
const NEAR = 80;

/** `scroller` shows a part of `content`; both are refs to elements. */
export function useEnd(scroller, content) {
  const isAtEnd = ref(true);
  let lastTop = 0;

  /**
   * Only going up leaves the end. The distance alone does not tell: when a picture is there at last, a thread has grown
   * before the event of its last scroll comes.
   */
  function watchEnd() {
    const { scrollHeight, scrollTop, clientHeight } = scroller.value;
    if (scrollHeight - scrollTop - clientHeight < NEAR) isAtEnd.value = true;
    else if (scrollTop < lastTop) isAtEnd.value = false;
    lastTop = scrollTop;
  }
  function toEnd() {
    isAtEnd.value = true;
    scroller.value.scrollTop = scroller.value.scrollHeight;
  }

  // Pictures, messages, the field for writing and the window all change a size sooner or later.
  const observer = new ResizeObserver(() => isAtEnd.value && toEnd());
  onMounted(() => {
    toEnd();
    observer.observe(scroller.value);
    observer.observe(content.value);
  });
  onUnmounted(() => observer.disconnect());

  return { isAtEnd, toEnd, watchEnd, leaveEnd: () => (isAtEnd.value = false) };
}
