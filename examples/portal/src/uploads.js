/** Files beside the text that is being written: each is uploaded at once, and sent by its link. */
import { computed, onUnmounted, reactive } from 'vue';
import { upload } from './api.js';
import { uploadProblem } from './failures.js';

/** Most files of one message. */
const MOST = 10;

export function useUploads(conversation) {
  /** `{key, file, preview, url, problem, isPassing, done}`; `url` once it is uploaded. */
  const files = reactive([]);
  let lastKey = 0;

  function add(chosen) {
    for (const file of chosen) {
      const isPicture = /^image\/(avif|gif|jpeg|png|webp)$/.test(file.type);
      const preview = isPicture ? URL.createObjectURL(file) : null;
      files.push({ key: (lastKey += 1), file, preview, url: null, problem: '', isPassing: false, done: null });
      const added = files.at(-1);
      if (files.length > MOST) added.problem = `“${file.name}” is one too many: a message has at most ${MOST} files.`;
      else bring(added);
    }
  }

  function bring(added) {
    added.problem = '';
    added.done = upload(conversation, added.file)
      .then((url) => (added.url = url))
      .catch((error) => {
        added.problem = uploadProblem(added.file, error);
        added.isPassing = Boolean(error.isPassing);
      });
  }

  function remove(key) {
    const [gone] = files.splice(files.findIndex((file) => file.key === key), 1);
    if (gone?.preview) URL.revokeObjectURL(gone.preview);
  }

  const clear = () => [...files].forEach(({ key }) => remove(key));
  onUnmounted(clear);

  return {
    files,
    add,
    bring,
    remove,
    clear,
    isUploading: computed(() => files.some(({ url, problem }) => !url && !problem)),
    problems: computed(() => files.filter(({ problem }) => problem)),
    urls: () => files.map(({ url }) => url).filter(Boolean),
    /** Waits until each is uploaded or has failed. */
    settle: () => Promise.all(files.map(({ done }) => done)),
  };
}
